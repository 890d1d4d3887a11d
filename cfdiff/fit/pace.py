"""How fast this machine trains, and so in which precision, in which batches, and how large a diffusion network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cfdiff.edit.cast import DTYPES
from cfdiff.engine.loss import l_simple
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.errors import UserError
from cfdiff.fit.classifiers import begun, classifier_network, classifier_seen
from cfdiff.fit.plan import OF_CLASSES, Precision, shares_of
from cfdiff.models.classifier import ClassifierConfig, build_classifier
from cfdiff.models.denoiser import Denoiser
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.models.way_down import ARCH, arguments_of
from cfdiff.train.diffusion import default_mult

WIDTHS = {64: 60_000, 48: 24_000, 32: 0}
"""Channels of the first resolution -> images that must be seen in the time; below, the narrower network learns more."""
LEAST = 1500
"""Images that a first diffusion model has to see at least: with fewer there is nothing to look at."""
BATCH = 16
FEW_STEPS = 2000
"""Steps under which a smaller batch teaches a diffusion model more than a larger one."""
FEW_OF_CLASSIFIERS = 1000
"""The like of classifiers: with 330 steps of 64 they learn less (benchmarks/batches.py); where it ends is a guess."""
CLASSIFIER_BATCHES = (64, 32)
"""None is smaller: with 16 they learn more on some sets, and less on as many (benchmarks/batches.py)."""
BATCHES = (64, 32, 16)
"""None is smaller: half an hour of a core with batches of 8 (20,700 images of the circuit boards) ended at a loss of
.0160, with batches of 16 (16,500 images) at .0158."""
QUICKER = 1.1
"""How much more bfloat16 must do to be worth its coarser numbers: a processor without it computes it the long way."""


def images_a_second(
    shape: tuple[int, int, int], width: int, device: torch.device, precision: Precision = "no"
) -> float:
    """Training images (H, W, C) a second through our U-Net of that width."""
    config = _unet(shape, width)
    denoise = Denoiser(UNet(config).to(device), NoiseSchedule.cosine(1000), dtype=DTYPES[precision])
    x = torch.zeros(BATCH, config.channels, *config.size, device=device)
    levels = torch.full((BATCH,), 500, device=device)
    return _pace(lambda: l_simple(denoise.schedule, denoise, x, levels, torch.randn_like(x)).mean(), device)


def _unet(shape: tuple[int, int, int], width: int) -> UNetConfig:
    """That of a fit's diffusion model of images (H, W, C)."""
    height, columns, channels = shape
    size = {"channels": channels, "size": (height, columns), "width": width, "mult": default_mult(shape, 2)}
    return UNetConfig.model_validate({**size, "classes": 2})


def classified_a_second(config: ClassifierConfig, device: torch.device, precision: Precision = "no") -> float:
    """Training images a second through a classifier."""
    net = build_classifier(config).to(device)
    x = torch.zeros(BATCH, config.channels, *config.size, device=device)
    log_snr = (torch.zeros(BATCH, device=device),) if config.noisy else ()
    labels = torch.zeros(BATCH, dtype=torch.long, device=device)

    def loss() -> Tensor:
        dtype = DTYPES[precision]
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return F.cross_entropy(net(x, *log_snr).float(), labels)

    return _pace(loss, device)


def fitting_batch(images: float, few: int = FEW_STEPS, batches: Sequence[int] = BATCHES) -> int:
    """The largest of batches, from large to small, with which so many images make `few` steps, else the smallest."""
    return next((batch for batch in batches if images / batch >= few), batches[-1])


def fitting_batches(
    shape: tuple[int, int, int], space: str, minutes: float, device: torch.device, precision: Precision, width: int
) -> dict[str, int]:
    """The batch of each classifier of images (H, W, C) in so many minutes, with a diffusion model of that width."""
    found, paces = dict[str, int](), dict[str, float]()
    for role in OF_CLASSES:
        seen = classifier_seen(role, space, shape)
        told = {"channels": seen[2], "size": seen[:2], "noisy": role == "guide"}
        network = classifier_network(role, space, shape)
        if role in begun(space):
            network = {"arch": ARCH, "kwargs": arguments_of(_unet(seen, width).model_dump(mode="json"), None)}
        config = ClassifierConfig.model_validate({**network, **told})
        known = config.model_dump_json()  # which several roles have
        if known not in paces:
            paces[known] = classified_a_second(config, device, precision)
        images = 60 * minutes * shares_of(space)[role] * paces[known]
        found[role] = fitting_batch(images, FEW_OF_CLASSIFIERS, CLASSIFIER_BATCHES)
    return found


def _pace(loss: Callable[[], Tensor], device: torch.device) -> float:
    """Images a second of a loss of `BATCH` images that learns, the best of two steps after one to warm up."""
    best = 0.0
    for step in range(3):
        started = time.monotonic()
        loss().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        pace = BATCH / max(1e-9, time.monotonic() - started)
        best = max(best, pace) if step else 0.0
    return best


def fitting_network(shape: tuple[int, int, int], minutes: float, device: torch.device) -> tuple[int, Precision]:
    """Width and precision of the widest network that sees enough images in `minutes` of training.

    Raises:
        UserError: even the narrowest would see too few; says what it would take here.
    """
    pace = 0.0
    for width, wanted in WIDTHS.items():
        pace, precision = _quickest(shape, width, device)
        if pace * 60 * minutes >= max(wanted, LEAST):
            return width, precision
    raise UserError(
        f"{minutes:.3g} minutes for the diffusion model are too short here: at {pace:.3g} images a second of "
        f"{shape[0]}x{shape[1]} it takes {LEAST / pace / 60:.2g} at least; raise --minutes, or make the images smaller "
        "(cfdiff data convert --size)."
    )


def _quickest(shape: tuple[int, int, int], width: int, device: torch.device) -> tuple[float, Precision]:
    """The pace, and in which precision; bfloat16 only where it can be timed and trained in."""
    whole = images_a_second(shape, width, device)
    if device.type not in ("cpu", "cuda"):
        return whole, "no"
    half = images_a_second(shape, width, device, "bf16")
    return (half, "bf16") if half > QUICKER * whole else (whole, "no")
