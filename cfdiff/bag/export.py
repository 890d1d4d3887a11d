"""--export: features of every bag for MIL tools, from the judge or from a timm model that the user names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from cfdiff.bag.settings import BagSettings
from cfdiff.bag.setup import Setup
from cfdiff.data.raw import file_sha256
from cfdiff.data.values import to_model
from cfdiff.edit.cast import Cast
from cfdiff.edit.roles import load_role, model_paths, pick_device
from cfdiff.errors import UserError
from cfdiff.figures.bags import bag_names, file_names
from cfdiff.files import atomic, guarded, try_writing
from cfdiff.models.checkpoint import Model
from cfdiff.models.features import Extract, judge_features, timm_features, timm_weights
from cfdiff.store.bag_layouts import (
    FeatureBag,
    Origin,
    clear,
    square,
    write_clam,
    write_npz,
    write_origin,
    write_table,
    write_torchmil,
)
from cfdiff.store.bags import Bags, open_bags
from cfdiff.workers.crew import Elsewhere, crew

_BATCH = 128


@dataclasses.dataclass(frozen=True)
class Exporter:
    """An export that can be made.

    Attributes:
        kind, folder: the layout, and where.
        extract: the features, in this process. encoder: whose they are: name and sha256 of the weights.
        group_of: id -> group of every instance; empty for data without groups.
    """

    kind: str
    folder: Path
    extract: Extract
    encoder: str
    group_of: dict[str, str]


def check_export(s: BagSettings, setup: Setup) -> Exporter | None:
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
    extract = _extract(s, setup.source.shape[2], setup.cast.judge, setup.cast.device)
    groups = setup.source.groups
    pairs = () if groups is None else zip(setup.source.ids.astype(str), groups.astype(str), strict=True)
    return Exporter(kind, folder, extract, _encoder(s, setup.cast), {str(i): str(group) for i, group in pairs})


def _encoder(s: BagSettings, cast: Cast) -> str:
    if s.features is None:
        return f"judge {cast.hashes['judge']}"
    file = timm_weights(s.features, s.feature_weights)
    assert file is not None, "asked before"
    return f"{s.features} {file_sha256(file)}"


def _extract(s: BagSettings, channels: int, judge: Model | None, device: torch.device) -> Extract:
    if s.features is not None:
        return timm_features(s.features, s.feature_weights, channels, device)
    assert judge is not None, "asked before"
    return judge_features(judge, device)


class FeatureReader:
    """Reads features of a bag file's images. A piece is a data set (source or counterfactual) and a range of rows."""

    def __init__(self, bags: Bags, extract: Extract) -> None:
        self.bags, self.extract = bags, extract

    @torch.no_grad()
    def __call__(self, piece: tuple[str, int, int]) -> np.ndarray:
        """(images, D) float32."""
        name, start, stop = piece
        return self.extract(to_model(self.bags.images(name, np.arange(start, stop)))).cpu().numpy()


def feature_reader(s: BagSettings, result: Path) -> FeatureReader:
    """A `FeatureReader` in a process of its own; the judge is the only model that it opens, if any."""
    bags, device = open_bags(result), pick_device(s.device)
    channels = bags.images("source", np.array([0])).shape[3]
    path = next(iter(model_paths(s, s.data, "judge")), None)
    judge = None if s.features is not None or path is None else load_role(path, "judge", device)
    return FeatureReader(bags, _extract(s, channels, judge, device))


def export_bags(s: BagSettings, result: Path, exporter: Exporter) -> list[FeatureBag]:
    """Write every bag and mix of a bag file; each image passes the network once, here or in a worker.

    Raises:
        UserError: the folder cannot be written; the bag file is as it was.
    """
    try:
        return _export(s, result, exporter)
    except OSError as error:
        raise UserError(
            f"--export cannot write into {exporter.folder} ({error.strerror or error}): make room or name another "
            "folder, and give the command again; the bags are done."
        ) from error


def _export(s: BagSettings, result: Path, exporter: Exporter) -> list[FeatureBag]:
    kind, folder = exporter.kind, exporter.folder
    folder.mkdir(exist_ok=True)
    clear(folder, kind)
    with open_bags(result) as bags:
        before, after = _features(s, bags, result, exporter.extract)
        names, whole = file_names(bags), bag_names(bags)
        cases = [_case(bags, b, exporter.group_of) for b in range(len(whole))]
        pixels = bags.images("source", np.array([0])).shape[1:3]
        written = []
        for j, name in enumerate(names):
            rows = bags.rows(j)
            edit, instance = bags.read("row/edit", rows), bags.read("row/instance", rows)
            features = before[bags.read("instance/source")[instance]]
            if len(after):
                features = np.where(edit[:, None] >= 0, after[edit], features)
            places, b = bags.places(j), int(bags.read("mix/bag", j))
            bag = FeatureBag(
                name=name,
                case=cases[b],
                features=features.astype(np.float32),
                grid=square(len(edit)) if places is None else places.grid,
                corners=None if places is None else places.corners,
                labels=bags.read("row/label", rows),
                edited=bags.read("row/edited", rows),
                sham=bags.read("row/sham", rows),
                requested=float(bags.read("mix/requested", j)),
                mix_of=whole[b],
            )
            if kind == "clam":
                write_clam(folder, bag, pixels)
                _write_pt(folder, bag)
            elif kind == "torchmil":
                write_torchmil(folder, bag)
            else:
                write_npz(folder, bag)
            written.append(dataclasses.replace(bag, features=features[:0]))  # the table needs no features
        write_origin(folder, Origin(bags.attrs["models"], exporter.encoder))
    write_table(folder, written)
    return written


def _case(bags: Bags, b: int, group_of: dict[str, str]) -> str:
    """The patient of a bag, also of a drawn one; its name where it holds instances of several, or nothing says whose.

    Tools split by case, so a draw must not hide that its instances are of a patient who is elsewhere too.
    """
    start, stop = bags.read("bag/offset", slice(b, b + 2)).tolist()
    of = {group_of.get(str(i)) for i in bags.read("instance/id", slice(start, stop))}
    only = of.pop() if len(of) == 1 else None
    return str(bags.read("bag/name", slice(b, b + 1))[0]) if only is None else only


def _write_pt(folder: Path, bag: FeatureBag) -> None:
    """`pt_files/NAME.pt`: what CLAM trains on."""
    (folder / "pt_files").mkdir(exist_ok=True)
    with atomic(folder / "pt_files" / f"{bag.name}.pt") as scratch, guarded(scratch) as file:
        torch.save(torch.from_numpy(bag.features), file)


def _features(s: BagSettings, bags: Bags, result: Path, extract: Extract) -> tuple[np.ndarray, np.ndarray]:
    """Those of the sources and of the edits, (images, D) float32 each."""
    counts = {
        "source": int(bags.read("instance/source").max()) + 1,
        "counterfactual": len(bags.read("edit/used")),
    }
    pieces = [(name, i, min(i + _BATCH, n)) for name, n in counts.items() for i in range(0, n, _BATCH)]
    with crew(s, lambda: FeatureReader(bags, extract), Elsewhere(feature_reader, (s, result))) as workers:
        found = dict(workers.do(pieces))
    parts = {name: [found[piece] for piece in pieces if piece[0] == name] for name in counts}
    return tuple(np.concatenate(p) if p else np.empty((0, 0), np.float32) for p in parts.values())  # type: ignore[return-value]
