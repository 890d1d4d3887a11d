"""How exactly `cfdiff bag` reaches a mix: drawn bags and whole smears, both modes, and the unguided control.

    python benchmarks/bags.py                         everything: hours on a laptop
    python benchmarks/bags.py --bags 2 --patients 1   a look

Every number is computed from the finished files. Equality outside the edits is checked here on the pixels, not taken
from the hashes in the file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.data.open import open_source
from cfdiff.data.values import unit
from cfdiff.metrics.columns import Columns, Figure
from cfdiff.store.bags import open_bags

MIXES = "0,0.1,0.3,0.5,0.9,1"
KINDS: dict[str, dict[str, Any]] = {
    "instance": {"mode": "instance"},
    "joint": {"mode": "joint"},
    "unguided": {"mode": "joint", "scale": 0.0, "on_fail": "keep", "steps": 3},  # the identity for every S: few will do
}


def main() -> None:
    """Run every kind on both sorts of bags and print (or write) one row each."""
    args = _arguments()
    common: dict[str, Any] = {"mix": args.mixes, "seed": args.seed, **dict(_set(args.set))}
    sorts = {
        f"drawn bags of {args.size}": {"bag_size": args.size, "bags": args.bags},
        "whole smears": {"bags": args.patients},
    }
    folder = Path(tempfile.mkdtemp()) if args.keep is None else args.keep
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for sort, which in sorts.items():
        for kind in args.kinds.split(","):
            out = folder / f"{sort.replace(' ', '-')}-{kind}.h5"
            clock = out.with_suffix(".seconds")  # beside the file: the same run gives the same file, whatever it took
            if out.exists():
                print(f"{sort}, {kind}: taken from {out.name}")
            else:
                settings = BagSettings(**{**common, **which, **KINDS[kind], "out": out})
                clock.write_text(str(bag(settings).seconds_per_bag))
            seconds = float(clock.read_text()) if clock.exists() else None
            rows.append({"bags": sort, "kind": kind, "seconds_per_bag": seconds, **measure(out, args.data_of(common))})
            print(line(rows[-1]), flush=True)
    print("\n".join(markdown(rows)))
    if args.out is not None:
        args.out.write_text(json.dumps({"benchmark": "bags", "seed": args.seed, "rows": rows}, indent=1) + "\n")
    if args.keep is None:
        shutil.rmtree(folder)


def measure(path: Path, data: str) -> dict[str, Any]:
    """The figures of one bag file; 95 % intervals are over whole bags, as the mixes of one are not independent."""
    source = open_source(data, keep_other=True)
    row_of = {str(i): row for row, i in enumerate(source.ids)}
    off, requested_off, by_labels, real_off, change, different = [], [], [], [], [], 0
    exact, exact_by_labels = [], []
    with open_bags(path) as bags:
        for j in range(len(bags)):
            view = bags[j]
            n = len(view.ids)
            judged = view.prob["judge"][:, :, 1] > 0.5
            count, mixed = int(judged[:, 1].sum()), int(np.where(view.edited, judged[:, 1], view.label_before).sum())
            off.append(abs(count - view.wanted) / n)
            by_labels.append(abs(mixed - view.wanted) / n)
            requested_off.append(abs(count / n - view.requested))
            real_off.append(abs(int(judged[:, 0].sum()) - int((view.label_before == 1).sum())) / n)
            exact.append(count == view.wanted)
            exact_by_labels.append(mixed == view.wanted)
            moved = np.abs(unit(view.image) - unit(view.source)).mean(axis=(1, 2, 3))[view.edited]
            change.append(moved.mean() if len(moved) else np.nan)
            real = source.read([row_of[i] for i in view.ids])
            rest = ~(view.edited | view.sham)
            different += int((view.image[rest] != real[rest]).any(axis=(1, 2, 3)).sum())
        names = bags.read("bag/name")[bags.read("mix/bag")]
        seen = bags.read("prob/judge")[:, 0, 1] > 0.5
        truth = bags.read("instance/label")[bags.read("row/instance")] == 1
    columns = Columns(len(names), names if len(np.unique(names)) > 1 else None, None)
    found: dict[str, Any] = {"bags_and_mixes": len(names), "different_bags": len(np.unique(names))}
    for name, shares in (("exact", exact), ("exact_by_labels", exact_by_labels)):
        found |= figure(name, columns.share("", np.array(shares)))
    means = {
        "off_planned": off,
        "off_requested": requested_off,
        "off_planned_by_labels": by_labels,
        "judge_off_on_real_bags": real_off,
        "mean_abs_difference_edited": change,
    }
    for name, values in means.items():
        found |= figure(name, columns.mean("", np.array(values), within=(0, 1)))
    return found | {"judge_error_on_real": float((seen != truth).mean()), "changed_outside_edits": different}


def figure(name: str, of: Figure) -> dict[str, Any]:
    """A value and its interval."""
    return {name: of.all.value, f"{name}_95": (of.all.low, of.all.high)}


def markdown(rows: list[dict[str, Any]]) -> list[str]:
    """The table of docs/quality.md."""
    heads = (
        "bags", "mode", "bags x mixes", "exact count by labels", "exact by the judge",
        "off by labels", "off by the judge", "the judge alone on the real bags",
        "mean \\|difference\\| of the edits", "changed outside", "s a bag and mix",
    )  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:

        def share(name: str, row: dict[str, Any] = row) -> str:
            low, high = row[f"{name}_95"]
            return f"{row[name]:.1%} ({low:.1%}-{high:.1%})"

        def mean(name: str, row: dict[str, Any] = row) -> str:
            low, high = row[f"{name}_95"]
            between = "" if low is None else f" ({low:.4f}-{high:.4f})"
            return "" if row[name] is None else f"{row[name]:.4f}{between}"

        cells = (
            row["bags"], row["kind"], f"{row['different_bags']} x {row['bags_and_mixes'] // row['different_bags']}",
            share("exact_by_labels"), share("exact"), mean("off_planned_by_labels"), mean("off_planned"),
            mean("judge_off_on_real_bags"), mean("mean_abs_difference_edited"), str(row["changed_outside_edits"]),
            "" if row["seconds_per_bag"] is None else f"{row['seconds_per_bag']:.1f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def line(row: dict[str, Any]) -> str:
    """One row as one reads it."""
    low, high = row["exact_95"]
    change, seconds = row["mean_abs_difference_edited"], row["seconds_per_bag"]
    return (
        f"{row['bags']}, {row['kind']} ({row['bags_and_mixes']}): exact {row['exact']:.1%} ({low:.1%} to {high:.1%}), "
        f"by labels {row['exact_by_labels']:.1%}; mean |achieved - planned| {row['off_planned']:.4f}, "
        f"- requested {row['off_requested']:.4f}, by labels {row['off_planned_by_labels']:.4f} "
        f"(the judge alone, on the real bags: {row['judge_off_on_real_bags']:.4f}; "
        f"its error an image {row['judge_error_on_real']:.1%}); "
        f"|difference| {'none' if change is None else f'{change:.4f}'}; "
        f"changed outside {row['changed_outside_edits']}; "
        f"{'' if seconds is None else f'{seconds:.1f} s a bag'}"
    )


def _set(pairs: list[str]) -> Iterator[tuple[str, Any]]:
    """name=value settings; values are JSON where they can be."""
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            yield name, json.loads(value)
        except json.JSONDecodeError:
            yield name, value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bags", type=int, default=30, help="drawn bags a kind")
    parser.add_argument("--size", type=int, default=32, help="instances of a drawn bag")
    parser.add_argument("--patients", type=int, default=None, help="whole smears a kind [all]")
    parser.add_argument("--mixes", default=MIXES)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="any setting of cfdiff bag")
    parser.add_argument("--keep", type=Path, help="folder for the bag files; those that are there are not made again")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    args.data_of = lambda common: common.get("data", "malaria-cells")
    return args


if __name__ == "__main__":
    main()
