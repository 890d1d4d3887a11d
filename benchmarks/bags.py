"""How exactly `cfdiff bag` reaches a mix: drawn bags and whole smears, both modes, and the unguided control.

    python benchmarks/bags.py                         everything: at least 200 bags and mixes
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

from cfdiff.data.open import open_source
from cfdiff.data.values import unit
from cfdiff.metrics.intervals import mean_interval, wilson
from cfdiff.store.bags import open_bags
from cfdiff.workflows.bag import bag
from cfdiff.workflows.bag_settings import BagSettings

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
            if out.exists():
                print(f"{sort}, {kind}: taken from {out.name}")
                seconds = None
            else:
                settings = BagSettings(**{**common, **which, **KINDS[kind], "out": out})
                seconds = bag(settings)["seconds_per_bag"]
            rows.append({"bags": sort, "kind": kind, "seconds_per_bag": seconds, **measure(out, args.data_of(common))})
            print(line(rows[-1]), flush=True)
    if args.out is not None:
        args.out.write_text(json.dumps({"benchmark": "bags", "seed": args.seed, "rows": rows}, indent=1) + "\n")
    if args.keep is None:
        shutil.rmtree(folder)


def measure(path: Path, data: str) -> dict[str, Any]:
    """The figures of one bag file, with 95 % intervals over bags and mixes."""
    source = open_source(data, keep_other=True)
    row_of = {str(i): row for row, i in enumerate(source.ids)}
    off, requested_off, by_labels, real_off, change, different = [], [], [], [], [], 0
    exact = exact_by_labels = 0
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
            exact += count == view.wanted
            exact_by_labels += mixed == view.wanted
            change.extend(np.abs(unit(view.image) - unit(view.source)).mean(axis=(1, 2, 3))[view.edited])
            real = source.read([row_of[i] for i in view.ids])
            rest = ~(view.edited | view.sham)
            different += int((view.image[rest] != real[rest]).any(axis=(1, 2, 3)).sum())
        total = len(bags)
        seen = bags.read("prob/judge")[:, 0, 1] > 0.5
        truth = bags.read("instance/label")[bags.read("row/instance")] == 1
    return {
        "bags_and_mixes": total,
        "exact": exact / total,
        "exact_95": wilson(exact, total),
        "exact_by_labels": exact_by_labels / total,
        "exact_by_labels_95": wilson(exact_by_labels, total),
        "off_planned": float(np.mean(off)),
        "off_planned_95": mean_interval(np.array(off)),
        "off_requested": float(np.mean(requested_off)),
        "off_planned_by_labels": float(np.mean(by_labels)),
        "judge_error_on_real": float((seen != truth).mean()),
        "judge_off_on_real_bags": float(np.mean(real_off)),
        "mean_abs_difference_edited": float(np.mean(change)) if change else None,
        "changed_outside_edits": different,
    }


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
