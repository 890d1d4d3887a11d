"""Where? Difference maps against lesion masks, which are found by the id of each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.readers.images import SUFFIXES
from cfdiff.data.readers.masks import MaskFiles
from cfdiff.data.values import unit
from cfdiff.edit.settings import EditSettings
from cfdiff.errors import UserError
from cfdiff.evaluate.origin import bundled_data, open_beside, rows_of
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics import localisation
from cfdiff.metrics.columns import Columns, Entry, Figure, entry_of
from cfdiff.metrics.intervals import over
from cfdiff.remote import is_url
from cfdiff.roles import ROLES
from cfdiff.settings import PLACES
from cfdiff.store.bags import sha256_of
from cfdiff.store.runs import Run

RULE = (
    "Images with an empty mask take part in pixel AUPRC and AUROC (whatever their maps mark is false) and have a row "
    "of their own for what is marked; Dice, pointing and sizes are over images with a lesion."
)


@dataclass(frozen=True, eq=False)
class Located:
    """What localisation gave: figures, per-image values (N,) with NaN where the mask is empty, and the thresholds."""

    figures: dict[str, Figure]
    values: dict[str, np.ndarray]
    thresholds: dict[str, float]


def read_masks(s: EvaluateSettings, run: Run) -> np.ndarray | None:
    """(N, H, W) bool of the run's images; None where nobody named masks and the data has none.

    Raises:
        UserError: --masks has none, does not know an image, or belongs to other images.
    """
    spec = s.masks or s.data or bundled_data(run)
    if spec is None:
        return None
    if s.masks is not None and not is_url(spec) and Path(spec).is_dir():
        return _from_folder(Path(spec), run)
    source = open_beside(s, run, spec, keep_other=True)
    if source.mask_reader is None:
        if s.masks is None:
            return None
        raise UserError(f"{source.name} has no masks: give --masks a source that has, or a folder with ID.png.")
    rows = rows_of(run, source, s.batch_size)
    masks = [source.read_masks(rows[i : i + s.batch_size]) for i in range(0, len(run), s.batch_size)]
    return np.concatenate([part for part in masks if part is not None])


def _from_folder(folder: Path, run: Run) -> np.ndarray:
    """FOLDER/ID with any image suffix, else FOLDER/NAME; an image of the negative class may be without."""
    found = [_mask_file(folder, str(name)) for name in run.ids]
    owner: dict[Path, str] = {}
    for name, path in zip(map(str, run.ids), found, strict=True):
        if path is not None and owner.setdefault(path, name) != name:
            raise UserError(
                f"The images {owner[path]!r} and {name!r} would both get the mask {path.name} of {folder.name}: name "
                "the files as the ids, in folders as theirs."
            )
    if not any(found):
        raise UserError(
            f"The folder {folder.name} has a mask for none of the {len(run)} images of {run.path.name} (the first is "
            f"{str(run.ids[0])!r}): name the files as the ids, with .png."
        )
    missing = [str(i) for i, path, label in zip(run.ids, found, run.label, strict=True) if path is None and label != 0]
    if missing:
        raise UserError(
            f"The folder {folder.name} has no mask for {missing[0]!r} "
            f"({len(missing)} of {len(run)} images lack theirs): name the files as the ids, with .png."
        )
    return MaskFiles([() if path is None else (path,) for path in found], run.shape, None).read(np.arange(len(run)))


def _mask_file(folder: Path, name: str) -> Path | None:
    path = Path(name)
    # Only the ending of an image goes: P1.0012 is an id of its own, not another P1.
    bare = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    stems = dict.fromkeys(map(str, (path, bare, path.name, bare.name)))
    paths = (folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
    # An id may lead out of the folder (../images/a.png): then the image itself would be its mask.
    root = folder.resolve()
    return next((path for path in paths if path.is_file() and path.resolve().is_relative_to(root)), None)


def maps_of(run: Run, s: EvaluateSettings) -> np.ndarray:
    """(N, H, W) float32 difference maps of a run."""
    rows = [np.arange(i, min(i + s.batch_size, len(run))) for i in range(0, len(run), s.batch_size)]
    pairs = (run.read(here) for here in rows)
    roles = [localisation.difference_map(unit(cf) - unit(source), s.smooth, s.relative) for source, cf in pairs]
    return np.concatenate(roles).astype(np.float32)


def fixed_threshold(s: EvaluateSettings, run: Run, validation: Run) -> float:
    """The threshold that is best on the images of another run.

    Raises:
        UserError: it was made otherwise than the run, shares images with it, or has no masks, or only empty ones.
    """
    if different := _differences(run, validation):
        raise UserError(
            f"--threshold-from {validation.path.name} differs from {run.path.name} in {', '.join(different)}: make it "
            "as the run was made, from other images."
        )
    # By their pixels: ids may be mere row numbers, and then other images have the same.
    own = {sha256_of(image) for image in _sources(run, s)}
    shared = [i for i, image in zip(validation.ids, _sources(validation, s), strict=True) if sha256_of(image) in own]
    if shared:
        raise UserError(
            f"--threshold-from {validation.path.name} shares {len(shared)} images with {run.path.name} "
            f"(the first is {str(shared[0])!r}): a threshold must come from other images."
        )
    masks = read_masks(s, validation)
    if masks is None or not masks.any():
        raise UserError(f"No image of --threshold-from {validation.path.name} has a lesion in its mask: take another.")
    return localisation.best_threshold(maps_of(validation, s), masks)


def _differences(run: Run, other: Run) -> list[str]:
    """What makes difference maps of two runs incomparable: direction, models that steered, settings of the edit."""
    names = [name for name in EditSettings.model_fields if name not in PLACES | {"seed", "batch_size"}]
    steering = [role for role in ROLES if role != "judge"]
    return [
        *(["direction"] if run.direction != other.direction else []),
        *(role for role in steering if run.models.get(role) != other.models.get(role)),
        *(name for name in names if run.settings.get(name) != other.settings.get(name)),
    ]


def _sources(run: Run, s: EvaluateSettings) -> Iterator[np.ndarray]:
    """The source images (H, W, C), in the order of the run."""
    for i in range(0, len(run), s.batch_size):
        yield from run.read(np.arange(i, min(i + s.batch_size, len(run))))[0]


def saliency_of(run: Run) -> np.ndarray | None:
    """(N, H, W) float32 in [0, 1], by what the regenerating edit looked for the place; None where no edit looked."""
    return None if run.saliency is None else run.saliency(np.arange(len(run))).astype(np.float32)


def locate(
    maps: np.ndarray,
    masks: np.ndarray,
    columns: Columns,
    threshold: float | None,
    measured: dict[str, np.ndarray],
    saliency: np.ndarray | None = None,
) -> Located:
    """All of localisation; maps (N, H, W), masks (N, H, W) with at least one lesion; saliency (N, H, W) beside them."""
    filled = masks.any(axis=(1, 2))
    otsu = localisation.otsu_threshold(maps)
    thresholds = {"oracle": localisation.best_threshold(maps, masks)}
    if threshold is not None:
        thresholds["validation"] = threshold
    words = {"otsu": "Otsu's threshold", "validation": "validation threshold", "oracle": "oracle threshold"}
    marks = {"otsu": localisation.above(maps, otsu)}
    marks |= {k: localisation.above(maps, thresholds[k]) for k in ("validation", "oracle") if k in thresholds}
    values = {
        "auprc": localisation.auprc_per_image(maps, masks),
        "pointing": localisation.pointing_game(maps, masks),
        **{f"dice_{k}": np.where(filled, localisation.dice(m, masks), np.nan) for k, m in marks.items()},
        "lesion_area": masks.sum(axis=(1, 2)).astype(np.float64),
    }
    figures = _pooled(maps, masks, columns)
    figures["auprc_per_image"] = columns.mean("AUPRC, mean over images", values["auprc"], "higher", within=(0, 1))
    for k in marks:
        figures[f"dice_{k}"] = columns.mean(f"Dice at {words[k]}", values[f"dice_{k}"], "higher", within=(0, 1))
    if not filled.all():
        for k, mark in marks.items():
            label = f"pixels marked where there is no lesion, {words[k]}"
            figures[f"marked_empty_{k}"] = columns.mean(
                label, np.where(filled, np.nan, mark.mean(axis=(1, 2))), "lower", within=(0, 1)
            )
    figures["pointing"] = columns.share("pointing game", values["pointing"], "higher")
    best = "validation" if threshold is not None else "oracle"
    figures |= _sizes(values, masks, columns, best, words[best])
    if saliency is not None:
        figures |= _saliency(maps, saliency, masks, columns)
    measured |= {f"localisation/{name}": v for name, v in values.items()}
    return Located(figures, values, thresholds)


def _pooled(maps: np.ndarray, masks: np.ndarray, columns: Columns) -> dict[str, Figure]:
    """AUPRC with the prevalence that chance has, and AUROC, over all pixels."""
    cache: dict[int, Any] = {}

    def drawn(rows: np.ndarray) -> str:
        return over(columns.groups_of(rows))

    def intervals(rows: np.ndarray) -> Any:
        if len(rows) not in cache:  # two figures, all and flipped: each subset is drawn once
            cache[len(rows)] = localisation.pooled_intervals(
                maps[rows], masks[rows], columns.groups_of(rows), columns.n_boot, columns.seed
            )
        return cache[len(rows)]

    def entry(statistic: Callable[..., float], which: int) -> Callable[[np.ndarray], Entry]:
        def of(rows: np.ndarray) -> Entry:
            if not masks[rows].any():
                return entry_of(None, None, len(rows), None)
            return entry_of(
                statistic(maps[rows], masks[rows]), intervals(rows)[which], len(rows), f"bootstrap over {drawn(rows)}"
            )

        return of

    share = masks.mean(axis=(1, 2))
    return {
        "auprc": columns.of_rows("pixel AUPRC, pooled", entry(localisation.auprc, 0), "higher"),
        "prevalence": columns.mean("prevalence: the AUPRC of chance", share, within=(0, 1)),
        "auroc": columns.of_rows("pixel AUROC, pooled (chance 0.5)", entry(localisation.auroc, 1), "higher"),
    }


def _saliency(maps: np.ndarray, saliency: np.ndarray, masks: np.ndarray, columns: Columns) -> dict[str, Figure]:
    """Of the saliency as a map of its own, and of its sum with the difference map, both 1 at most an image."""
    words = {"saliency": "the saliency", "sum": "saliency + difference map"}
    found = {}
    for name, scores in {"saliency": saliency, "sum": saliency + localisation.to_one(maps)}.items():
        pooled = _pooled(scores, masks, columns)
        for figure in ("auprc", "auroc"):
            found[f"{figure}_{name}"] = replace(pooled[figure], label=f"{pooled[figure].label}, of {words[name]}")
        point = localisation.pointing_game(scores, masks)
        found[f"pointing_{name}"] = columns.share(f"pointing game, of {words[name]}", point, "higher")
    return found


def _sizes(
    values: dict[str, np.ndarray], masks: np.ndarray, columns: Columns, best: str, words: str
) -> dict[str, Figure]:
    """Dice and pointing for the small, middle and large third of the lesions."""
    area = values["lesion_area"]
    edges = np.unique(np.quantile(area[area > 0], [0, 1 / 3, 2 / 3, 1]).round())
    figures = {}
    for i, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        last = i == len(edges) - 2
        inside = (area >= low) & ((area <= high) if last else (area < high))
        size = f"{low:.0f} to {high if last else high - 1:.0f} pixels"
        dice = np.where(inside, values[f"dice_{best}"], np.nan)
        figures[f"dice_size_{i}"] = columns.mean(f"Dice at {words}, lesions of {size}", dice, "higher", within=(0, 1))
        point = np.where(inside, values["pointing"], np.nan)
        figures[f"pointing_size_{i}"] = columns.share(f"pointing game, lesions of {size}", point, "higher")
    return figures
