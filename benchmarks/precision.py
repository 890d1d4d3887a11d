"""How much faster is a step of training in bfloat16 (--precision bf16) on this machine?

    python benchmarks/precision.py --threads 1 --json benchmarks/results/precision.json

Forward and backward pass of the networks that `cfdiff fit` trains, on noise of one size, in float32 and under autocast,
in turns. What is learned in the same time is another question: docs/performance.md has two trainings that answer it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cfdiff.edit.roles import pick_device
from cfdiff.fit.classifiers import ARCHITECTURES
from cfdiff.models.classifier import Classifier, ClassifierConfig
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.train.diffusion import default_mult
from cfdiff.version import __version__


def networks(side: int, channels: int, width: int) -> dict[str, tuple[nn.Module, bool]]:
    """Name -> network, and whether it takes a timestep."""
    shape = {"channels": channels, "size": (side, side)}
    mult = default_mult((side, side, channels), 2)
    unet = UNet(UNetConfig.model_validate({**shape, "width": width, "mult": mult, "classes": 2}))
    plain = {
        arch: (Classifier(ClassifierConfig.model_validate({**shape, "arch": arch})), False)
        for arch in dict.fromkeys(ARCHITECTURES.values())
    }
    return {f"U-Net of width {width}": (unet, True), **plain}


def seconds(step: Callable[[], None], device: torch.device) -> float:
    begun = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--width", type=int, default=48, help="of the U-Net")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device, rows = pick_device(options.device), list[dict[str, Any]]()
    torch.manual_seed(0)
    x = torch.randn(options.batch, options.channels, options.size, options.size, device=device)
    t = torch.full((options.batch,), 500, device=device)
    for name, (net, timed) in networks(options.size, options.channels, options.width).items():
        net.to(device).train()

        def step(half: bool, net: nn.Module = net, given: tuple[torch.Tensor, ...] = (x, t) if timed else (x,)) -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                answer = net(*given)
            answer.float().square().mean().backward()
            net.zero_grad()

        turns = [
            (seconds(lambda: step(False), device), seconds(lambda: step(True), device))
            for _ in range(options.repeats + 1)
        ]
        ratios = [whole / half for whole, half in turns[1:]]  # the first warms up
        rows.append(
            {
                "network": name,
                "images_a_second": options.batch / statistics.median(whole for whole, _ in turns[1:]),
                "images_a_second_bf16": options.batch / statistics.median(half for _, half in turns[1:]),
                "times_faster": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    report = {"benchmark": "precision", "cfdiff": __version__, "device": where, "threads": torch.get_num_threads()}
    report |= {"load": os.getloadavg()[0], "torch": torch.__version__, "size": options.size}
    report |= {"channels": options.channels, "batch": options.batch, "rows": rows}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
