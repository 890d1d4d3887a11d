"""Does it pay to reuse deep features of the U-Net (DeepCache, Ma et al. 2024) where encode and decode reuse the same?

    python benchmarks/reuse.py --limit 96 --json benchmarks/results/reuse.json

A call that reuses computes the first resolution alone and takes what comes up from below from another call. *Down*:
decode takes it from the encoding of the same image at the same level, so that an image that nothing steers still meets
its encoded path, bit for bit. *Up*: on the way up every second level takes it from the level below. *Both*: both, where
nothing but the first resolution ever sees the guidance.

Bundled cells of the validation patients, the recipe of the weights in all else, one image at a time. Calls are weighted
by their cost: that of one which reuses is measured here, beside a whole one. Intervals are 95 %, over patients.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from rows import Rows
from torch import Tensor

from cfdiff.edit.editor import Editor
from cfdiff.engine import Trajectory
from cfdiff.models.checkpoint import load_diffusion
from cfdiff.models.unet import UNet
from cfdiff.settings import resolve
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings
from cfdiff.version import __version__

VARIANTS = {"none": (False, False), "down": (False, True), "up": (True, False), "both": (True, True)}
"""Name: whether encode reuses, whether decode does."""
STARTS = ("negative", "positive")


class Reuse:
    """The forward pass of a `UNet` without tokens, which keeps what comes up to the first resolution, or takes it."""

    def __init__(self, up: bool, down: bool) -> None:
        self.up, self.down = up, down
        self.deep: dict[int, Tensor] = {}
        self.encoding = False
        self.last: int | None = None
        self.whole = self.part = 0

    def forward(self, net: UNet, x: Tensor, t: Tensor) -> Tensor:
        """eps for one image, at (1,) timesteps."""
        level = int(t[0])
        known = self.deep.get(level) if self.down and not self.encoding else None
        if self.encoding and self.up and self.last is not None:
            known, self.last = self.deep[self.last], None
        elif self.encoding:
            self.last = level
        self.part += known is not None
        self.whole += known is None
        out, deep = forward(net, x, t, known)
        if self.encoding:
            self.deep[level] = deep
        return out

    def encode(self, editor: Editor, ask: Callable[..., Trajectory], *given: Any) -> Trajectory:
        """`Editor.encode`, of whose calls the deep features are kept until the next."""
        self.deep.clear()
        self.encoding, self.last = True, None
        try:
            return ask(editor, *given)
        finally:
            self.encoding = False


def forward(net: UNet, x: Tensor, t: Tensor, deep: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """eps, and what comes up from below the first resolution; with it only the first resolution is computed."""
    blocks, last = net.config.blocks, net.config.blocks + 1
    emb, h = net.embedded(t), net.folded(x)
    if deep is None:
        h, skips = net.encoded(h, emb)
        for block, attention in stages(net.up[:-last]):
            if block.scale != "up":
                h = torch.cat([h, skips.pop()], dim=1)
            h = attention(block(h, emb))
        deep = h
    else:
        skips = [h]
        for block, attention in stages(net.down[:blocks]):
            h = attention(block(h, emb))
            skips.append(h)
    h = deep
    for block, attention in stages(net.up[-last:]):
        h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
    return F.pixel_shuffle(net.head(h), net.config.patch), deep


def stages(of: Any) -> Iterable[Any]:
    """The (block, attention) of each stage, whose types a ModuleList does not tell."""
    return of


def cost(threads: int, batch: int = 32, turns: int = 60) -> float:
    """The time of a call that reuses over that of a whole one, of a batch as a run has; the median of some turns."""
    torch.set_num_threads(threads)
    net = load_diffusion(Path("cfdiff/weights/malaria-cells/diffusion.safetensors"), torch.device("cpu")).net
    assert isinstance(net, UNet)
    x, t = torch.randn(batch, 1, 48, 48), torch.full((batch,), 100)
    ratios = []
    with torch.no_grad():
        plain = net(x, t)
        again, deep = forward(net, x, t)
        assert torch.equal(plain, again) and torch.equal(plain, forward(net, x, t, deep)[0])
        for _ in range(turns):
            whole, part = _seconds(partial(forward, net, x, t)), _seconds(partial(forward, net, x, t, deep))
            ratios.append(part / whole)
    return statistics.median(ratios)


def _seconds(call: Callable[[], Any], times: int = 5) -> float:
    begin = time.process_time()
    for _ in range(times):
        call()
    return time.process_time() - begin


def run(name: str, start: str, options: argparse.Namespace) -> dict[str, Any]:
    """One variant, one direction."""
    reuse, encode = Reuse(*VARIANTS[name]), Editor.encode
    given = {"from": start, "split": options.split, "limit": options.limit, "seed": options.seed}
    given |= {"threads": options.threads, "batch_size": 1}
    with (
        tempfile.TemporaryDirectory() as scratch,
        patch.object(UNet, "forward", lambda net, x, t: reuse.forward(net, x, t)),
        patch.object(Editor, "encode", lambda editor, *given: reuse.encode(editor, encode, *given)),
    ):
        summary = translate(resolve(TranslateSettings, None, {**given, "out": Path(scratch) / "run.h5"}))
    return {"variant": name, "from": start, "whole": reuse.whole, "reusing": reuse.part, **summary.as_json()}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown, a row a variant, both directions."""
    lines = ["| reused | to positive: judge, change, cost in calls | to negative | n |", "|---|---|---|---|"]
    for name in VARIANTS:
        cells = []
        for start in STARTS:
            row = next((row for row in rows if (row["variant"], row["from"]) == (name, start)), None)
            if row is None:
                continue
            low, high = row["flipped_judge_95"]
            calls = (row["whole"] + row["cost"] * row["reusing"]) / row["images"]
            cells.append(
                f"{row['flipped_judge']:.1%} ({low:.0%}-{high:.0%}), {row['mean_abs_difference']:.4f}, {calls:.1f}"
            )
            n = row["images"]
        if cells:
            lines.append(f"| {name} | {' | '.join(cells)} | {n} |")
    return lines


def main() -> None:
    options = _parser().parse_args()
    told = {"benchmark": "reuse", "cfdiff": __version__, "split": options.split, "seed": options.seed}
    told["limit"] = options.limit
    rows, weight = Rows(options.json, told, ["variant", "from"]), cost(options.threads)
    for name in options.only or VARIANTS:
        for start in STARTS:
            rows.put({**run(name, start, options), "cost": weight})
    print(*table(rows.rows), sep="\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS))
    parser.add_argument("--limit", type=int, default=96, help="images a direction")
    parser.add_argument("--split", default="val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser


if __name__ == "__main__":
    main()
