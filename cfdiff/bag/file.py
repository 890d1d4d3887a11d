"""From plan and edits to the bag file: labels, hashes, the judge's word on what is saved, and the three ratios."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.bag.instance import Done, root_attributes
from cfdiff.bag.setup import Setup, prob_of
from cfdiff.roles import WITNESSES
from cfdiff.store import open_result
from cfdiff.store.bags import ImageStream, sha256_of, write_bags

_BATCH = 256
_ACHIEVED = {"judge": "achieved_by_labels", "checker": "achieved_by_checker"}
"""Whose word counts where an instance was edited -> the column of mix/*."""
_COPIED = ("ratio", "depth", "alpha_bar", "retries", "network_calls")


def write_bag_file(path: Path, setup: Setup, done: Done) -> None:
    """Write the whole file; images pass through memory in batches."""
    source, bags, goals = setup.source, setup.bags, setup.goals
    pool, pooled = np.unique(np.concatenate([bag.rows for bag in bags]), return_inverse=True)
    source_sha = np.array([sha for images in _read(setup, pool) for sha in map(sha256_of, images)])
    bag_offset = np.concatenate([[0], np.cumsum([len(bag) for bag in bags])])
    instance_rows = pool[pooled]
    score = {goal.bag: goal.score for goal in goals}
    arrays = {
        "bag/name": np.array([bag.name for bag in bags]),
        "bag/offset": bag_offset,
        "instance/id": source.ids[instance_rows].astype(str),
        "instance/source": pooled.astype(np.int64),
        "instance/label": setup.instances.labels[instance_rows],
        "instance/label_from": setup.label_from[instance_rows],
        "instance/frozen": setup.instances.frozen[instance_rows],
        "instance/score": np.concatenate([score[b] for b in range(len(bags))]),
        "instance/sha256": source_sha[pooled],
    }
    if setup.instances.strata is not None:
        arrays["instance/stratum"] = setup.instances.strata[instance_rows]
    if source.places is not None:
        arrays |= {f"instance/{key}": values[instance_rows] for key, values in source.places._asdict().items()}

    edits = _edits(done)
    instance = np.concatenate([np.arange(*bag_offset[goal.bag : goal.bag + 2]) for goal in goals])
    edit, edited = np.concatenate(done.edit), np.concatenate(done.edited)
    touched = edit >= 0
    before = arrays["instance/label"][instance]
    goal_of = np.repeat(np.arange(len(goals)), [len(bags[goal.bag]) for goal in goals])
    label = np.where(edited, edits["target"][edit] if len(edits["target"]) else before, before).astype(np.int8)
    sha = arrays["instance/sha256"][instance].astype(object)
    sha[touched] = edits["sha256"][edit[touched]]
    arrays |= {
        "row/instance": instance.astype(np.int64),
        "row/edit": edit,
        "row/edited": edited,
        "row/sham": touched & ~edited,
        "row/label": label,
        "row/sha256": sha.astype(str),
        "mix/bag": np.array([goal.bag for goal in goals], dtype=np.int64),
        "mix/offset": np.concatenate([[0], np.cumsum([len(bags[goal.bag]) for goal in goals])]),
        "mix/requested": np.array([goal.requested for goal in goals]),
        "mix/wanted": np.array([goal.wanted for goal in goals], dtype=np.int64),
        "mix/planned": np.array([goal.wanted / len(bags[goal.bag]) for goal in goals]),
        "mix/before": _mean_of(before, goal_of),
        "mix/target": np.array([goal.target for goal in goals], dtype=np.int8),
    }
    for who in WITNESSES:
        model = getattr(setup.cast, who)
        if model is None:
            continue
        seen = prob_of(model, source, pool, setup.cast.device)[pooled][instance]
        prob = np.stack([seen, seen], axis=1)
        if touched.any():
            prob[touched, 1] = edits[f"prob/{who}"][edit[touched]]
        arrays[f"prob/{who}"] = prob
        positive = prob[:, 1, 1] > 0.5
        if who == "judge":
            arrays["mix/achieved"] = _mean_of(positive, goal_of)
        if who in _ACHIEVED:
            arrays[f"mix/{_ACHIEVED[who]}"] = _mean_of(np.where(touched, positive, before), goal_of)

    used = np.zeros(len(edits["target"]), bool)
    used[edit[touched]] = True
    position = np.full(len(source), -1, dtype=np.int64)
    position[pool] = np.arange(len(pool))
    row_of = {str(source.ids[row]): row for row in pool.tolist()}
    arrays |= {
        "edit/source": np.array([position[row_of[str(i)]] for i in edits["id"]], dtype=np.int64),
        "edit/target": edits["target"],
        "edit/used": used,
        "edit/status": edits["status"],
        **{f"edit/{name}": edits[f"guidance/{name}"] for name in _COPIED},
    }
    shape = source.shape
    images: dict[str, ImageStream] = {
        "source": ((len(pool), *shape), source.dtype, _read(setup, pool)),
        "counterfactual": ((len(used), *shape), source.dtype, _edited(done, "counterfactual")),
        "difference": ((len(used), *shape), np.dtype(np.float16), _edited(done, "difference")),
    }
    write_bags(path, setup.settings, root_attributes(setup), arrays, images)


def _read(setup: Setup, rows: np.ndarray) -> Iterator[np.ndarray]:
    for i in range(0, len(rows), _BATCH):
        yield setup.source.read(rows[i : i + _BATCH])


def _edited(done: Done, name: str) -> Iterator[np.ndarray]:
    """The images of all edits, in their order."""
    for path, keep in zip(done.files, done.keep, strict=True):
        with open_result(path) as result:
            for i in range(0, len(keep), _BATCH):
                yield result[name][keep[i : i + _BATCH]]


def _edits(done: Done) -> dict[str, np.ndarray]:
    """What is known of each edit, without its images: columns of the rounds' files, and sha256 of the image saved."""
    columns: dict[str, list[np.ndarray]] = {}
    for path, keep in zip(done.files, done.keep, strict=True):
        with open_result(path) as result:
            for name in ("id", "target", *(f"guidance/{name}" for name in _COPIED)):
                columns.setdefault(name, []).append(result[name][:][keep])
            for who in WITNESSES:
                if f"prob/{who}" in result:
                    columns.setdefault(f"prob/{who}", []).append(result.prob(who)[keep, 1])
            status = result["status"][:] if "status" in result else np.full(len(result), "")
            columns.setdefault("status", []).append(status[keep])
    found = {name: np.concatenate(parts) for name, parts in columns.items()}
    empty: dict[str, Any] = {
        "id": "U1",
        "target": np.int8,
        "status": "U1",
        **{f"guidance/{n}": np.float32 for n in _COPIED[:3]},
    }
    empty |= {f"guidance/{n}": np.int16 for n in _COPIED[3:]}
    for name, dtype in empty.items():
        found.setdefault(name, np.empty(0, dtype))
    found["sha256"] = np.array(
        [sha for images in _edited(done, "counterfactual") for sha in map(sha256_of, images)], dtype=object
    )
    return found


def _mean_of(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(J,) the mean of the values (R,) in each group."""
    return np.bincount(group, weights=values.astype(np.float64)) / np.bincount(group)
