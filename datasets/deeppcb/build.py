"""The circuit boards: which board goes into which split, and how the bundled file is built.

    python datasets/deeppcb/build.py SOURCE.npz OUT_DIR        the .npz, with its card

SOURCE is a .npz of pairs of tiles: images, labels, pair, masks, defect (codes), group, name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.raw import file_sha256, save_npz
from cfdiff.errors import UserError

CLASSES = ("sound", "defect")
KINDS = {"1": "open", "2": "short", "3": "mousebite", "4": "spur", "5": "copper", "6": "pin-hole"}
# Board -> split. Why: REASONS.
SPLITS = {
    "group20085": "train",
    "group00041": "train",
    "group12100": "train-verifier",
    "group13000": "train-judge",
    "group90100": "val",
    "group92000": "test",
    "group50600": "test",
    "group12000": "test",
}
REASONS = {
    "train": "the two boards that hold half of the tiles, for diffusion, guide and checker: these need most images",
    "train-verifier": "a board of its own, so that what accepts an edit never saw the guide's boards",
    "train-judge": "the largest of the other boards, as the judge measures everything",
    "val": "a board of middling brightness; small, as it only stops trainings and tunes",
    "test": "three boards rather than one, so that intervals can be over boards; one of them dark, unlike all others. "
    "In the largest the twins fit best: least of their difference is outside the masks",
}
ARRAYS = ("images", "labels", "pair", "masks", "defect", "group", "name")
CHANGED = 16  # grey levels
Tiles = dict[str, np.ndarray]

TITLE = "Circuit boards (DeepPCB), 64 px"
LICENCE = "MIT"
CITATION = "Tang et al., Online PCB defect detector on a new PCB defect dataset, arXiv 1902.06197, 2019"
TEMPLATE = Path(__file__).with_name("card.md")


def kind_of(codes: str) -> str:
    """The kinds of defect in words: "1" -> "open", "3,4" -> "mousebite+spur", "" -> ""."""
    try:
        return "+".join(KINDS[code] for code in sorted(set(codes.split(",")) - {""}))
    except KeyError as error:
        raise UserError(f"{codes!r} is no list of kinds of defect: the known ones are {', '.join(KINDS)}.") from error


def read_tiles(source: Path) -> Tiles:
    """The arrays of the bundled file, sorted by pair, the sound tile first."""
    try:
        with np.load(source, allow_pickle=False) as file:
            tiles = {key: file[key] for key in ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{source.name} is not a .npz of pairs of tiles ({', '.join(ARRAYS)}): {error}.") from error
    order = np.lexsort((tiles["labels"], tiles["pair"]))
    tiles = {key: array[order] for key, array in tiles.items()}
    unknown = sorted(set(tiles["group"].tolist()) - set(SPLITS))
    if unknown:
        raise UserError(f"{source.name} has the board {unknown[0]}, which has no split: name one in build.py.")
    tiles["labels"] = tiles["labels"].astype(np.uint8)
    tiles["defect"] = np.array([kind_of(codes) for codes in tiles["defect"].tolist()])
    tiles["split"] = np.array([SPLITS[board] for board in tiles["group"].tolist()])
    return {**tiles, "classes": np.array(CLASSES)}


def build(source: Path, out: Path) -> Path:
    """Write `out/deeppcb.npz` with its card.json and README.md; the same tiles give the same bytes."""
    tiles = read_tiles(source)
    path = out / "deeppcb.npz"
    save_npz(path, tiles)
    facts = describe(path, tiles)
    (out / "README.md").write_text(_page(facts, tiles), encoding="utf-8")
    (out / "card.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return path


def describe(npz: Path, tiles: Tiles) -> dict[str, Any]:
    """The content of card.json: what it is, sha256, classes, counts by split and class, boards, kinds."""
    counts = {}
    for split in dict.fromkeys(SPLITS.values()):
        here = tiles["split"] == split
        counts[split] = {
            **{name: int((tiles["labels"][here] == label).sum()) for label, name in enumerate(CLASSES)},
            "boards": len(np.unique(tiles["group"][here])),
        }
    kinds, of_kind = np.unique(tiles["defect"][tiles["labels"] == 1], return_counts=True)
    return {
        "name": "deeppcb",
        "title": TITLE,
        "licence": LICENCE,
        "citation": CITATION,
        "n": len(tiles["labels"]),
        "groups": len(np.unique(tiles["group"])),
        "pairs": len(np.unique(tiles["pair"])),
        "image_shape": [*tiles["images"].shape[1:], 1],
        "dtype": str(tiles["images"].dtype),
        "classes": list(CLASSES),
        "counts": counts,
        "boards": {board: split for board, split in SPLITS.items() if board in tiles["group"]},
        "defects": dict(zip(kinds.tolist(), of_kind.tolist(), strict=True)),
        "sha256": file_sha256(npz),
        "pixels_sha256": hashlib.sha256(np.ascontiguousarray(tiles["images"]).tobytes()).hexdigest(),
    }


def apart(tiles: Tiles) -> tuple[float, float]:
    """Of the pairs' difference: the share of pixels above CHANGED outside the masks, and the share of |d| inside."""
    sound, defect = (tiles["images"][tiles["labels"] == label].astype(np.int64) for label in (0, 1))
    width = tiles["images"].shape[2]
    inside = np.unpackbits(tiles["masks"][tiles["labels"] == 1], axis=-1, count=width).astype(bool)
    difference = np.abs(defect - sound)
    far = difference > CHANGED
    return float((far & ~inside).sum() / far.sum()), float(difference[inside].sum() / difference.sum())


def _page(facts: dict[str, Any], tiles: Tiles) -> str:
    outside, ceiling = apart(tiles)
    means = [tiles["images"][tiles["group"] == board].mean() for board in facts["boards"]]
    seen = Counter(hashlib.sha256(image.tobytes()).digest() for image in tiles["images"])
    copies = [n for n in seen.values() if n > 1]
    reasons = [f"- **{split}**, {_boards(split)}: {why}." for split, why in REASONS.items()]
    return TEMPLATE.read_text(encoding="utf-8").format(
        **{key: facts[key] for key in ("title", "n", "pairs", "sha256", "pixels_sha256")},
        boards=facts["groups"],
        table=_table(facts),
        reasons="\n".join(reasons),
        boards_table=_boards_table(facts, tiles),
        outside=outside,
        ceiling=ceiling,
        dark=min(means),
        bright=max(means),
        copies=sum(copies),
        copy_sets=len(copies),
    )


def _boards(split: str) -> str:
    return ", ".join(board for board, other in SPLITS.items() if other == split)


def _table(facts: dict[str, Any]) -> str:
    negative, positive = facts["classes"]
    counts = facts["counts"].items()
    rows = [[split, c[negative], c[positive], c[negative] + c[positive], c["boards"]] for split, c in counts]
    total = ["all", *(sum(int(row[k]) for row in rows) for k in range(1, 5))]
    lines = [f"| split | {negative} | {positive} | tiles | boards |", "|---|---|---|---|---|"]
    return "\n".join(
        lines + [f"| {row[0]} | " + " | ".join(f"{n:,}" for n in row[1:]) + " |" for row in (*rows, total)]
    )


def _boards_table(facts: dict[str, Any], tiles: Tiles) -> str:
    single = list(KINDS.values())
    lines = [f"| board | split | pairs | {' | '.join(single)} | several |", "|---|" + "---|" * (len(single) + 3)]
    for board, split in facts["boards"].items():
        kinds = tiles["defect"][(tiles["group"] == board) & (tiles["labels"] == 1)].tolist()
        counts = [kinds.count(kind) for kind in single]
        row = [len(kinds), *counts, len(kinds) - sum(counts)]
        lines.append(f"| {board} | {split} | " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line of `python datasets/deeppcb/build.py`."""
    parser = argparse.ArgumentParser(prog="python datasets/deeppcb/build.py", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help=".npz of pairs of tiles")
    parser.add_argument("out", type=Path, help="folder for deeppcb.npz and its card")
    args = parser.parse_args()
    try:
        print(build(args.source, args.out))
    except UserError as error:
        parser.exit(2, f"Error: {error}\n")


if __name__ == "__main__":
    main()
