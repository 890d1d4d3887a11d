"""The picture of the README: cells of two finished results, spread evenly over each, failures as they come.

python benchmarks/picture.py demo/negative-to-positive.h5 demo/positive-to-negative.h5 docs/images/cells.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cfdiff.figures.panel import panel
from cfdiff.store import open_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--each", type=int, default=6, help="images of each result")
    options = parser.parse_args()
    images: dict[str, list[np.ndarray]] = {"source": [], "counterfactual": [], "difference": []}
    before, after, flipped, directions = [], [], [], []
    for path in options.results:
        with open_result(path) as r:
            classes = r.settings["classes"]
            directions.append(r.attrs["direction"].replace("->", "\N{RIGHTWARDS ARROW}"))
            for i in np.linspace(0, len(r) - 1, options.each).round().astype(int):
                for name, rows in images.items():
                    rows.append(r[name][i])
                p = r.prob("judge")[i, :, 1]
                before.append(p[0])
                after.append(p[1])
                flipped.append(bool(r["flipped"][i]))
    stacked = {name: np.stack(rows) for name, rows in images.items()}
    panel(
        **stacked,
        before=np.array(before),
        after=np.array(after),
        flipped=flipped,
        classes=(classes[0], classes[1]),
        title=", below ".join(directions),
        out=options.out,
    )


if __name__ == "__main__":
    main()
