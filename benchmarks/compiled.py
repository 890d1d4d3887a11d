"""Is a network faster through torch.compile (--compile) on this machine, and what does the compiling take?

    python benchmarks/compiled.py --threads 1 --json benchmarks/results/compiled.json

The denoiser of bundled weights, as it is and compiled, in turns, at batches of several sizes: the first is compiled
for, and the second has torch compile once more, for any size. What a guide costs with its gradient is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from cfdiff.edit.roles import pick_device
from cfdiff.models.bundled import role_file, weights_folder
from cfdiff.models.checkpoint import load_diffusion
from cfdiff.models.compiled import compile_networks
from cfdiff.models.denoiser import Denoiser
from cfdiff.version import __version__


def seconds(ask: Denoiser, x: torch.Tensor, level: int) -> float:
    begun = time.perf_counter()
    with torch.no_grad():
        ask(x, level)
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="malaria-cells")
    parser.add_argument("--batches", type=int, nargs="*", default=[32, 17, 1])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    path = role_file(weights_folder(options.weights), "diffusion")
    assert path is not None, "the weights hold a diffusion model"
    plain, other = load_diffusion(path, device), load_diffusion(path, device)
    compile_networks([other.net], device)
    ways = plain.denoiser(), other.denoiser()
    height, width = plain.net.config.size
    level, rows = plain.schedule.T // 2, list[dict[str, Any]]()
    for batch in options.batches:
        x = torch.randn(batch, plain.net.config.channels, height, width, generator=torch.Generator().manual_seed(0))
        x = x.to(device)
        first = seconds(ways[1], x, level)
        seconds(ways[0], x, level)
        turns = [(seconds(ways[0], x, level), seconds(ways[1], x, level)) for _ in range(options.repeats)]
        ratios = [a / b for a, b in turns]
        with torch.no_grad():
            apart = float((ways[0](x, level) - ways[1](x, level)).abs().max())
        rows.append(
            {
                "batch": batch,
                "seconds": statistics.median(a for a, _ in turns),
                "seconds_compiled": statistics.median(b for _, b in turns),
                "times_faster": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
                "seconds_of_the_first_call": first,
                "largest_difference": apart,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    report = {"benchmark": "compiled", "cfdiff": __version__, "device": where, "threads": torch.get_num_threads()}
    report |= {"load": os.getloadavg()[0], "torch": torch.__version__, "rows": rows}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
