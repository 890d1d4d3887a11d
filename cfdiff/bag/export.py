"""--export: features of every bag for MIL tools, from the judge or from a timm model that the user names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from cfdiff.bag.settings import BagSettings
from cfdiff.bag.setup import Setup
from cfdiff.data.values import to_model
from cfdiff.errors import UserError
from cfdiff.figures.bags import file_names
from cfdiff.files import atomic, guarded, try_writing
from cfdiff.models.features import Extract, judge_features, timm_features
from cfdiff.store.bag_layouts import FeatureBag, clear, square, write_clam, write_npz, write_table, write_torchmil
from cfdiff.store.bags import Bags, open_bags


def check_export(s: BagSettings, setup: Setup) -> tuple[str, Path, Extract] | None:
    """The layout, folder and features asked for; None for none.

    Raises:
        UserError: the folder holds something or cannot be made, or there is no such model or weights.
    """
    if s.export is None:
        return None
    kind, folder = s.export
    if folder.is_file() or not folder.resolve().parent.is_dir():
        raise UserError(f"--export cannot make the folder {folder}: name one in an existing folder.")
    try:
        try_writing(folder if folder.is_dir() else folder.resolve().parent)
    except OSError as error:
        raise UserError(f"--export cannot write into {folder} ({error.strerror}): name another folder.") from error
    if folder.is_dir() and any(folder.iterdir()) and not s.force:
        raise UserError(f"--export would write into {folder}, which is not empty: name another, or use --force.")
    device = setup.cast.device
    if s.features is not None:
        return kind, folder, timm_features(s.features, s.feature_weights, setup.source.shape[2], device)
    assert setup.cast.judge is not None
    return kind, folder, judge_features(setup.cast.judge, device)


def export_bags(result: Path, kind: str, folder: Path, extract: Extract) -> list[FeatureBag]:
    """Write every bag and mix of a bag file in the layout of `kind`; each image passes the network once.

    Raises:
        UserError: the folder cannot be written; the bag file is as it was.
    """
    try:
        return _export(result, kind, folder, extract)
    except OSError as error:
        raise UserError(
            f"--export cannot write into {folder} ({error.strerror or error}): make room or name another folder, and "
            "give the command again; the bags are done."
        ) from error


def _export(result: Path, kind: str, folder: Path, extract: Extract) -> list[FeatureBag]:
    folder.mkdir(exist_ok=True)
    clear(folder, kind)
    with open_bags(result) as bags:
        before, after = _features(bags, "source", extract), _features(bags, "counterfactual", extract)
        names, cases = file_names(bags), bags.read("bag/name")
        pixels = bags.images("source", np.array([0])).shape[1:3]
        written = []
        for j, name in enumerate(names):
            rows = bags.rows(j)
            edit, instance = bags.read("row/edit", rows), bags.read("row/instance", rows)
            features = before[bags.read("instance/source")[instance]]
            if len(after):
                features = np.where(edit[:, None] >= 0, after[edit], features)
            places = bags.places(j)
            bag = FeatureBag(
                name=name,
                case=str(cases[bags.read("mix/bag")[j]]),
                features=features.astype(np.float32),
                grid=square(len(edit)) if places is None else places.grid,
                corners=None if places is None else places.corners,
                labels=bags.read("row/label", rows),
                edited=bags.read("row/edited", rows),
                requested=float(bags.read("mix/requested", j)),
            )
            if kind == "clam":
                write_clam(folder, bag, pixels)
                _write_pt(folder, bag)
            elif kind == "torchmil":
                write_torchmil(folder, bag)
            else:
                write_npz(folder, bag)
            written.append(dataclasses.replace(bag, features=features[:0]))  # the table needs no features
    write_table(folder, written)
    return written


def _write_pt(folder: Path, bag: FeatureBag) -> None:
    """`pt_files/NAME.pt`: what CLAM trains on."""
    (folder / "pt_files").mkdir(exist_ok=True)
    with atomic(folder / "pt_files" / f"{bag.name}.pt") as scratch, guarded(scratch) as file:
        torch.save(torch.from_numpy(bag.features), file)


@torch.no_grad()
def _features(bags: Bags, name: str, extract: Extract, batch: int = 128) -> np.ndarray:
    """(images of `name`, D) float32."""
    n = len(bags.read("edit/used")) if name == "counterfactual" else int(bags.read("instance/source").max()) + 1
    parts = [
        extract(to_model(bags.images(name, np.arange(i, min(i + batch, n))))).cpu().numpy() for i in range(0, n, batch)
    ]
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
