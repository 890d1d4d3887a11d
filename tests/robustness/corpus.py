"""Sound inputs of every kind that a user hands over, and what a user does with each.

`write` makes the files once; `KINDS` says how one is made unsound (mutate.py) and what then reads it, as far as a
command would go with it.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from PIL import Image
from robustness import clinic, mutate

N, SIZE = 12, 12


class Kind(NamedTuple):
    """How many cases of it CI tries; the files or folders in the corpus; what makes one unsound; what reads it."""

    cases: int
    files: tuple[str, ...]
    mutate: Callable[[Path, np.random.Generator], None]
    read: Callable[[Path], object]


def write(folder: Path) -> None:
    """All but the model files, the result and the bags, which the test's fixtures make."""
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (N, SIZE, SIZE)).astype(np.uint8)
    rgb = rng.integers(0, 256, (N, SIZE, SIZE, 3)).astype(np.uint8)
    labels, ids = np.arange(N) % 2, np.array([f"Größe/{i}.png" for i in range(N)])
    patient = np.array([f"P{i // 2}" for i in range(N)])
    arrays = {"images": gray, "labels": labels, "id": ids, "patient": patient, "masks": gray > 200}
    np.savez_compressed(folder / "gray.npz", **arrays, classes=np.array(["no", "yes"]))
    splits = {f"{s}_{k}": v for s in ("train", "test") for k, v in (("images", rgb), ("labels", labels[:, None]))}
    np.savez(folder / "medmnist.npz", **splits)
    for name, images in (("gray.h5", gray), ("rgb.h5", rgb)):
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("images", data=images, chunks=(1, *images.shape[1:]), compression="gzip")
            file["labels"], file["patient"], file["masks"] = labels, patient.astype("S9"), images.reshape(N, -1)[:, :0]
            del file["masks"]
            file["id"] = ids.astype(object)
            file["note"] = np.zeros(3, [("a", "u1"), ("b", "f4")])
    pictures = folder / "pictures"
    pictures.mkdir()
    for i in range(N):
        Image.fromarray(rgb[i]).save(pictures / f"{i}.png")
    rows = [[f"{i}.png", ["no", "yes"][i % 2], f"P{i // 2}", "train" if i < 8 else "test"] for i in range(N)]
    (pictures / "list.csv").write_text(mutate.table([["path", "label", "patient", "split"], *rows]))
    for name, image, how in (
        ("a.png", rgb[0], {}),
        ("b.png", gray[0], {"bits": 4}),
        ("c.jpg", rgb[0], {"quality": 90}),
        ("d.jpeg", gray[0], {"progressive": True}),
        ("e.tif", rgb[0], {"compression": "tiff_lzw"}),
        ("f.tif", gray[0].astype(np.uint16) * 200, {}),
        ("g.tif", rgb[0], {"compression": "jpeg"}),
        ("h.bmp", rgb[0], {}),
    ):
        for label in ("no", "yes"):
            place = folder / f"folder-{name}" / label
            place.mkdir(parents=True)
            Image.fromarray(image).save(place / name, **how)
    clinic.write(folder)
    with tarfile.open(folder / "shard.tar", "w") as archive:
        for i in range(N):
            archive.add(pictures / f"{i}.png", f"{i}.png")
            words = json.dumps({"label": ["no", "yes"][i % 2], "patient": f"P{i // 2}"}).encode()
            info = tarfile.TarInfo(f"{i}.json")
            info.size = len(words)
            archive.addfile(info, io.BytesIO(words))
    (folder / "edit.toml").write_text(
        'steps = 12\ndepth = 0.3\nratio = 0.4\nretries = 3\nguides = "both"\nsmooth = [0.1, 0.2]\nsolver = "ddim"\n'
        "seed = 5\nlimit = 20\nbatch_size = 16\nredraw_grow = 5\nmask_share = 0.2\n"
    )
    (folder / "describe.toml").write_text(
        'classes = [3, 4]\noutput = "logits"\nnormalisation = "imagenet"\nsize = 224\nchannels = 3\nnames = "no,yes"\n'
    )


def read_images(path: Path, reading: str | None = None) -> None:
    """As `cfdiff data inspect` and `split`, and all masks."""
    from cfdiff.data import open_source
    from cfdiff.data.splitting import plan_splits
    from cfdiff.data.summary import summarise

    source = open_source(path, reading=reading)
    summarise(source)
    source.read_masks(np.arange(len(source)))
    if len(source) >= N:
        plan_splits(source)


def read_model(path: Path) -> None:
    """As `cfdiff models inspect`, and as a run takes it: the network once over two images, its schedule, its space."""
    import torch

    from cfdiff.modelfiles.inspect import describe
    from cfdiff.models.checkpoint import load_model

    describe(path).rows()
    model = load_model(path)
    height, width, channels = model.shape
    x = torch.zeros(2, channels, height, width)
    if model.card.kind == "diffusion":
        _ = model.denoiser()(x, 3), model.space
    elif model.card.schedule is not None:
        _ = model.net(x, model.schedule.log_snr(torch.tensor([3, 3])))
    else:
        model.net(x)


def read_config(path: Path) -> None:
    """As every command takes --config, with the noise path that it asks for."""
    from cfdiff.edit.ladder import ladder
    from cfdiff.edit.recipe import read_recipe
    from cfdiff.engine.schedule import NoiseSchedule
    from cfdiff.engine.spacing import make_tau
    from cfdiff.settings import resolve
    from cfdiff.translate.settings import TranslateSettings

    _ = NoiseSchedule, make_tau, ladder, read_recipe
    resolve(TranslateSettings, path, {"data": "malaria-cells", "weights": "malaria-cells"})


def read_description(path: Path) -> None:
    """As a classifier that others made is described."""
    from cfdiff.models.description import read_description as read

    read(path.with_suffix(".pt"))


def read_result(path: Path) -> None:
    """As `translate` ends, `show` draws, and `report` writes its page."""
    from cfdiff.figures.settings import ShowSettings
    from cfdiff.figures.show import show
    from cfdiff.report.run import report
    from cfdiff.report.settings import ReportSettings
    from cfdiff.store.runs import open_run
    from cfdiff.translate.summary import summarise

    summarise(path).rows()
    with open_run(path) as run:
        _ = run.classes, run.steering_hashes, run.recall
        for rows in run.batches(4):
            run.read(rows)
    report(ReportSettings(run=path, out=path.with_suffix(".html")))
    if path.stat().st_size % 5 == 0:  # a picture takes a second
        show(ShowSettings(run=path, out=path.with_suffix(".png")))


def read_bags(path: Path) -> None:
    """As `bag` ends and `report` writes its page."""
    from cfdiff.bag.summary import summarise_bags
    from cfdiff.report.run import report
    from cfdiff.report.settings import ReportSettings
    from cfdiff.store.bags import open_bags

    summarise_bags(path).rows()
    with open_bags(path) as bags:
        for j in range(len(bags)):
            _ = bags[j]
    report(ReportSettings(run=path, out=path.with_suffix(".html")))


def _in_folder(change: Callable[[Path, np.random.Generator], None]) -> Callable[[Path, np.random.Generator], None]:
    """Of a folder, one file is changed."""

    def inside(path: Path, rng: np.random.Generator) -> None:
        files = sorted(p for p in path.rglob("*") if p.is_file())
        change(files[int(rng.integers(len(files)))], rng)

    return inside


def _in_table(path: Path, rng: np.random.Generator) -> None:
    mutate.text(path / "list.csv", rng)


KINDS = {
    "npz": Kind(160, ("gray.npz", "medmnist.npz"), mutate.npz, read_images),
    "h5": Kind(160, ("gray.h5", "rgb.h5"), mutate.hdf5, read_images),
    "csv": Kind(100, ("pictures",), _in_table, lambda path: read_images(path / "list.csv")),
    "png": Kind(60, ("folder-a.png", "folder-b.png"), _in_folder(mutate.image), read_images),
    "jpeg": Kind(60, ("folder-c.jpg", "folder-d.jpeg"), _in_folder(mutate.image), read_images),
    "tiff": Kind(100, ("folder-e.tif", "folder-f.tif", "folder-g.tif"), _in_folder(mutate.image), read_images),
    "bmp": Kind(20, ("folder-h.bmp",), _in_folder(mutate.image), read_images),
    "safetensors": Kind(
        120,
        ("diffusion.safetensors", "guide.safetensors", "checker.safetensors"),
        mutate.safetensors,
        read_model,
    ),
    "config": Kind(100, ("edit.toml",), mutate.text, read_config),
    "description": Kind(60, ("describe.toml",), mutate.text, read_description),
    "result": Kind(120, ("run.h5",), mutate.hdf5, read_result),
    "bags": Kind(80, ("bags.h5",), mutate.hdf5, read_bags),
    "dicom": Kind(40, ("dicom",), _in_folder(mutate.dicom), read_images),
    "nifti": Kind(40, ("nifti",), _in_folder(mutate.nifti), read_images),
    "tar": Kind(40, ("shard.tar",), mutate.image, read_images),
    "slide": Kind(20, ("slides",), _in_folder(mutate.image), lambda path: read_images(path, "tile=64")),
}


def case(corpus: Path, kind: str, number: int, folder: Path) -> Path:
    """The input of a case, made in an empty folder; equal numbers give equal inputs, and those below 0 are sound."""
    names = KINDS[kind].files
    rng = np.random.default_rng([list(KINDS).index(kind), max(number, 0)])
    name = names[int(rng.integers(len(names)))] if number >= 0 else names[number % len(names)]
    made = folder / name
    if (corpus / name).is_dir():
        shutil.copytree(corpus / name, made)
    else:
        shutil.copy(corpus / name, made)
    if number >= 0:
        KINDS[kind].mutate(made, rng)
    return made


def says(kind: str, number: int, how: str, words: str) -> str:
    """One line of the child's log."""
    return json.dumps({"kind": kind, "number": number, "how": how, "words": words})
