"""A toy world for whole runs: 16x16 images, healthy or with a bright spot, and four small models trained on them.

The models are trained for some seconds, once a session: real files, real networks with batch norm, and a guide,
checker and judge that know a spot when they see one.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exact import edit_settings, exact_cast, exact_images, told_cast
from hypothesis import settings as hypothesis_settings
from saved import make_bags, make_data, make_run

from cfdiff.data.values import to_model
from cfdiff.engine import NoiseSchedule
from cfdiff.models.autoencoder import AutoencoderConfig, build_autoencoder, measured
from cfdiff.models.checkpoint import Card, load_model, save_model
from cfdiff.models.classifier import Classifier, ClassifierConfig
from cfdiff.models.latent import LatentSpace
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.translate.settings import TranslateSettings

__all__ = ["edit_settings", "exact_cast", "exact_images", "make_bags", "make_data", "make_run", "told_cast"]

# No time limits, and the same examples in every run: a test that fails somewhere fails everywhere.
hypothesis_settings.register_profile("cfdiff", deadline=None, derandomize=True)
hypothesis_settings.load_profile("cfdiff")

# What takes longest comes first, so that no process is left with it alone at the end (`--no-loadscope-reorder`, for
# which many short tests would come first).
LONGEST = (
    "fit/test_run.py",
    "workers/test_cluster.py",
    "fit/test_space.py",
    "robustness/test_kills.py",
    "translate/test_run.py",
    "bag/test_run.py",
    "robustness/test_faults.py",
    "robustness/test_fuzz.py",
    "test_packaging.py",
    "tune/test_run.py",
    "golden/test_golden.py",
    "train/test_adapt.py",
    "bag/test_shared.py",
    "test_api.py",
    "test_end_to_end.py",
    "models/test_colour_weights.py",
    "models/test_latent.py",
)

# Another number trains other toy models. Every test must pass with each: it may not hang on how one training ended.
TOY_SEED = int(os.environ.get("TOY_SEED", "0"))
SIZE, T = 16, 100
CLASSES = ("healthy", "sick")
SCHEDULE = NoiseSchedule.cosine(T)
TINY = {"channels": [8, 16, 16, 16], "stem_width": 8}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of `LONGEST` first, in that order, and leave the others as they come."""
    place = {name: k for k, name in enumerate(LONGEST)}

    def rank(item: pytest.Item) -> int:
        return place.get(item.path.relative_to(Path(__file__).parent).as_posix(), len(place))

    items.sort(key=rank)


def toy_images(n: int, seed: int, size: int = SIZE, channels: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n images (n, size, size, channels) float64 in [0, 1], half with a bright spot; labels; masks of the spots."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    y, x = np.mgrid[:size, :size]
    centre = rng.uniform(4, size - 4, (2, n, 1, 1))
    distance = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    slope = rng.normal(0, 0.008, (2, n, 1, 1))
    plane = 0.4 + slope[0] * (y - size / 2) + slope[1] * (x - size / 2) + rng.normal(0, 0.02, (n, size, size))
    images = plane + 0.45 * labels[:, None, None] * np.exp(-distance / 6)
    tint = np.linspace(1, 0.8, channels)
    return (images[..., None] * tint).clip(0, 1), labels, distance < 25


def stored(images: np.ndarray, dtype: str) -> np.ndarray:
    """Images in [0, 1] as a file holds them."""
    if dtype == "float32":
        return images.astype(np.float32)
    return np.rint(images * np.iinfo(dtype).max).astype(dtype)


def write_npz(path: Path, n: int, *, seed: int = 1, dtype: str = "uint8", **changes: Any) -> Path:
    """A .npz of toy images with ids, patients and masks; `changes` replace or (None) remove arrays."""
    shape = {key: changes.pop(key) for key in ("size", "channels") if key in changes}
    images, labels, masks = toy_images(n, seed, **shape)
    arrays = {
        "images": stored(images, dtype),
        "labels": np.array(CLASSES)[labels],
        "id": np.array([f"cell/{i:03d}.png" for i in range(n)]),
        "patient": np.array([f"P{i // 6}" for i in range(n)]),
        "masks": masks,
    }
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


def save_unet(path: Path, net: UNet, schedule: NoiseSchedule = SCHEDULE) -> Path:
    card = Card("diffusion", net.config.model_dump(), schedule.config, {"classes": list(CLASSES)}, {})
    save_model(path, net, card)
    return path


def save_classifier(
    path: Path,
    net: Classifier,
    schedule: NoiseSchedule = SCHEDULE,
    classes: tuple[str, ...] = CLASSES,
    training: dict[str, Any] | None = None,
) -> Path:
    noisy = net.config.noisy
    kind = "noisy-classifier" if noisy else "clean-classifier"
    card = Card(kind, net.config.model_dump(), schedule.config if noisy else None, {"classes": list(classes)}, {})
    card.training.update(training or {})
    save_model(path, net, card)
    return path


def toy_unet(size: int = SIZE, channels: int = 1) -> UNet:
    torch.manual_seed(0)
    return UNet(UNetConfig(channels=channels, size=(size, size), width=8, mult=(1, 2), attention=()))


def toy_classifier(seed: int, noisy: bool = False, size: int = SIZE, channels: int = 1) -> Classifier:
    torch.manual_seed(seed)
    config = ClassifierConfig(arch="resnet10t", kwargs=TINY, channels=channels, size=(size, size), noisy=noisy)
    return Classifier(config)


def train_models(folder: Path, channels: int = 1, steps: int = 200) -> Path:
    """The four files of a `--weights` folder.

    The classifiers' rate falls to zero and the guide gets more steps, so that how good they are does not hang on the
    processor's rounding: with a constant rate and few steps a guide ended anywhere between chance and perfect.
    """
    folder.mkdir()
    images, labels, _ = toy_images(256, seed=0, channels=channels)
    x0, y = to_model(stored(images, "uint8")), torch.from_numpy(labels)
    unet = toy_unet(channels=channels)
    parts = {"guide": toy_classifier(1 + TOY_SEED, True, channels=channels)}
    parts |= {name: toy_classifier(seed + TOY_SEED, channels=channels) for name, seed in (("checker", 2), ("judge", 3))}
    for name, net in {"diffusion": unet, **parts}.items():
        g = torch.Generator().manual_seed(len(name) + TOY_SEED)
        net.train()
        budget = {"diffusion": steps, "guide": 3 * steps // 2}.get(name, steps // 2)
        optimizer = torch.optim.AdamW(net.parameters(), 4e-3)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget) if name != "diffusion" else None
        for _ in range(budget):
            rows = torch.randint(len(x0), (16,), generator=g)
            levels = torch.randint(1, T + 1 if name == "diffusion" else T // 2, (16,), generator=g)
            signal, noise = SCHEDULE.signal_noise(levels, x0)
            eps = torch.randn(x0[rows].shape, generator=g)
            x = signal * x0[rows] + noise * eps
            if name == "diffusion":
                loss = F.mse_loss(unet(x, levels - 1), eps)
            else:
                clean = x0[rows] + 0.05 * eps
                logits = net(x, SCHEDULE.log_snr(levels)) if name == "guide" else net(clean)
                loss = F.cross_entropy(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if falling is not None:
                falling.step()
        net.eval()
    save_unet(folder / "diffusion.safetensors", unet)
    for name, net in parts.items():
        save_classifier(folder / f"{name}.safetensors", net)
    return folder


def tell_classes(weights: Path, out: Path) -> Path:
    """A copy of a folder of models whose diffusion model may be told the class: it then shifts its output a little."""
    out.mkdir()
    for path in weights.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    plain = load_model(weights / "diffusion.safetensors")
    config = UNetConfig(**{**plain.card.config, "classes": 2})
    net = UNet(config).eval()
    rows = torch.zeros_like(net.told.weight)
    rows[:2] = torch.randn(rows[:2].shape, generator=torch.Generator().manual_seed(0))
    net.load_state_dict({**plain.net.state_dict(), "told.weight": rows})
    card = replace(plain.card, config=config.model_dump(mode="json"), condition="class")
    save_model(out / "diffusion.safetensors", net, card)
    return out


def train_latent(weights: Path, out: Path, steps: int = 120) -> Path:
    """A copy of a folder of models whose diffusion model and guide run in the latents of an autoencoder beside them."""
    out.mkdir()
    for path in weights.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    images, labels, _ = toy_images(256, seed=0)
    x0, y = to_model(stored(images, "uint8")), torch.from_numpy(labels)
    torch.manual_seed(0)
    config = AutoencoderConfig(channels=1, size=(SIZE, SIZE), patch=2, widths=(16,), latent=3)
    autoencoder = build_autoencoder(config)
    g = torch.Generator().manual_seed(TOY_SEED)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), 4e-3)
    for _ in range(steps):
        x = x0[torch.randint(len(x0), (16,), generator=g)]
        drawn, mean, _ = autoencoder(x, torch.randn(16, 3, SIZE // 2, SIZE // 2, generator=g))
        optimizer.zero_grad()
        (F.l1_loss(drawn, x) + 1e-3 * mean.square().mean()).backward()
        optimizer.step()
    with torch.no_grad():
        latents = measured(autoencoder.eval().encode(x0))
    card = Card("autoencoder", config.model_dump(mode="json"), None, {"classes": list(CLASSES)}, {"latents": latents})
    save_model(out / "autoencoder.safetensors", autoencoder, card)

    space = LatentSpace.of(out / "autoencoder.safetensors")
    z0, unet = space.encode(x0), UNet(UNetConfig(channels=3, size=(8, 8), patch=1, width=16, mult=(1, 2), attention=()))
    guide = Classifier(ClassifierConfig(arch="resnet10t", kwargs=TINY, channels=3, size=(8, 8), noisy=True, upsample=2))
    for name, net in (("diffusion", unet), ("guide", guide)):
        optimizer = torch.optim.AdamW(net.train().parameters(), 4e-3)
        for _ in range(steps):
            rows = torch.randint(len(z0), (16,), generator=g)
            levels = torch.randint(1, T + 1 if net is unet else T // 2, (16,), generator=g)
            signal, noise = SCHEDULE.signal_noise(levels, z0)
            eps = torch.randn(z0[rows].shape, generator=g)
            z = signal * z0[rows] + noise * eps
            if net is unet:
                loss = F.mse_loss(unet(z, levels - 1), eps)
            else:
                loss = F.cross_entropy(guide(z, SCHEDULE.log_snr(levels)), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        old = load_model(weights / f"{name}.safetensors").card
        told = {"space": {"name": "latent", **space.told}, "image": [SIZE, SIZE, 1]}
        save_model(
            out / f"{name}.safetensors", net.eval(), replace(old, config=net.config.model_dump(mode="json"), **told)
        )
    return out


@dataclass(frozen=True)
class Toy:
    """Data and models on disk, and settings for a quick run on them."""

    data: Path
    weights: Path

    def settings(self, out: Path, **changes: Any) -> TranslateSettings:
        quick = {"data": str(self.data), "weights": str(self.weights), "out": out, "device": "cpu"}
        return TranslateSettings(**{**quick, "steps": 6, "depth": 0.4, "retries": 2, "batch_size": 8, **changes})


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """48 images (24 healthy) of 8 patients, gray and 8-bit, with their models."""
    folder = tmp_path_factory.mktemp("toy")
    return Toy(write_npz(folder / "toy.npz", 48), train_models(folder / "weights"))


@pytest.fixture(scope="session")
def toy_told(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The toys with a diffusion model that may be told the class; told nothing, it is the one of the toys."""
    return Toy(toy.data, tell_classes(toy.weights, tmp_path_factory.mktemp("toy-told") / "weights"))


@pytest.fixture(scope="session")
def toy_latent(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The toys with a diffusion model and a guide in the latents (8x8x3) of an autoencoder; the others are theirs."""
    pytest.importorskip("diffusers")
    return Toy(toy.data, train_latent(toy.weights, tmp_path_factory.mktemp("toy-latent") / "weights"))


@pytest.fixture(scope="session")
def toy_rgb(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The same in colour."""
    folder = tmp_path_factory.mktemp("toy-rgb")
    return Toy(write_npz(folder / "toy.npz", 16, channels=3), train_models(folder / "weights", channels=3, steps=60))


@pytest.fixture(scope="session")
def toys() -> ModuleType:
    """This module, for a test that needs its builders."""
    return sys.modules[__name__]
