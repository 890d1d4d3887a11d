"""The picture of the truth: edits of a result beside the photograph of the same place in the class asked for.

    python benchmarks/anyone.py ../shared/data --only deeppcb --minutes 60 --threads 2 --out runs/anyone
    cfdiff evaluate runs/anyone/deeppcb/test-positive.h5 --pair --data ../shared/data/deeppcb_64.npz \\
        --weights runs/anyone/deeppcb --out boards-pair.json
    python benchmarks/twins.py runs/anyone/deeppcb/test-positive.h5 ../shared/data/deeppcb_64.npz docs/images/twins.png

Spread evenly over the result, failures as they come: what the judge does not take for the class asked for has a red
frame.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from cfdiff.data.open import open_source
from cfdiff.data.pairs import twins
from cfdiff.store import open_result

COLUMNS = ("source", "counterfactual", "truth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("data", help="the data of the result, with a column pair")
    parser.add_argument("out", type=Path)
    parser.add_argument("--each", type=int, default=12, help="images")
    parser.add_argument("--across", type=int, default=4, help="images a row")
    options = parser.parse_args()
    source = open_source(options.data)
    twin = dict(zip(source.ids.tolist(), twins(source).tolist(), strict=True))
    with open_result(options.result) as r:
        rows = np.linspace(0, len(r) - 1, options.each).round().astype(int)
        ids = [str(name) for name in r["id"][:]]
        triples = [
            (r["source"][i], r["counterfactual"][i], source.read(np.array([twin[ids[i]]]))[0], bool(r["flipped"][i]))
            for i in rows
        ]
    down = -(-len(triples) // options.across)
    grid = {"width_ratios": [1, 1, 1, 0.25] * options.across, "wspace": 0.06, "hspace": 0.1}
    figure, axes = plt.subplots(down, 4 * options.across, figsize=(10, 0.8 * down + 0.2), gridspec_kw=grid)
    for axis in axes.flat:
        axis.axis("off")
    for k, (*images, flipped) in enumerate(triples):
        row, column = divmod(k, options.across)
        for j, image in enumerate(images):
            axis = axes[row, 4 * column + j]
            axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
            if not row:
                axis.set_title(COLUMNS[j], fontsize=7, pad=2)
            refused = j == 1 and not flipped
            frame = {"color": "tab:red" if refused else "lightgray", "linewidth": 3 if refused else 0.5}
            axis.add_patch(plt.Rectangle((0, 0), 1, 1, transform=axis.transAxes, fill=False, **frame))
    figure.savefig(options.out, dpi=130, bbox_inches="tight", pad_inches=0.04)


if __name__ == "__main__":
    main()
