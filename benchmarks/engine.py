"""What does a run cost beyond its networks? Time of `translate` over the bare time of the same network calls.

    python benchmarks/engine.py                          bundled data and weights
    python benchmarks/engine.py --weights DIR --data DATA --limit 64 --repeats 7 --json engine.json
    python benchmarks/engine.py --profile                and what the rest of the time went to

A first run notes every call of a network: which, on what shape, with or without a gradient with respect to the input.
Then the run and these calls alone, on noise of the same shapes, take turns in one process. A run is everything from
the first image read to the finished file (reading, guidance, judging, compression, fsync, joining), with --set
compile=true of compiled networks beside the bare calls of those that are not; opening the data and loading the models
is the same for any number of images and is shown apart. On a GPU the calls are also replayed as CUDA graphs, without
the time that Python takes to launch their kernels: the least that they can take there.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cfdiff.edit.cast import Cast
from cfdiff.models.encoded import EncodedClassifier
from cfdiff.models.ensemble import members
from cfdiff.roles import ROLES
from cfdiff.settings import resolve
from cfdiff.translate import run as workflow
from cfdiff.translate.settings import TranslateSettings
from cfdiff.version import __version__


class Call(NamedTuple):
    """One call of a network, by its name in `networks`."""

    name: str
    shape: tuple[int, ...]
    gradient: bool


def networks(cast: Cast) -> dict[str, nn.Module]:
    """Every network of the roles, by role and, of several that are averaged, number: a guide asks each by itself."""
    found: dict[str, nn.Module] = {}
    for role in ROLES:
        if (model := getattr(cast, role)) is not None:
            nets = [one.net for one in members(model)]
            nets = [net.classifier if isinstance(net, EncodedClassifier) else net for net in nets]
            found |= {f"{role} {k}" if len(nets) > 1 else role: net for k, net in enumerate(nets, 1)}
    return found


def record(settings: TranslateSettings) -> tuple[Cast, list[Call]]:
    """The models of one run and the network calls that it made, in order."""
    calls: list[Call] = []
    casts: list[Cast] = []
    load, recall = workflow.cast_of, workflow.recall

    def watched(*arguments: Any) -> Cast:
        cast = load(*arguments)
        casts.append(cast)
        for name, net in networks(cast).items():
            handles.append(net.register_forward_pre_hook(note(name)))
        return cast

    def note(name: str) -> Any:
        def hook(net: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            x = arguments[0]
            calls.append(Call(name, tuple(x.shape), x.requires_grad))

        return hook

    handles: list[Any] = []
    workflow.cast_of = watched
    workflow.recall = lambda *arguments: {}  # of real images, before the run that is timed
    try:
        workflow.translate(settings)
    finally:
        workflow.cast_of, workflow.recall = load, recall
        for handle in handles:
            handle.remove()
    return casts[0], calls


class Replay:
    """The same calls on noise, with nothing around them."""

    def __init__(self, cast: Cast, calls: list[Call]) -> None:
        self.cast, self.calls, self.networks = cast, calls, networks(cast)
        g = torch.Generator().manual_seed(0)
        shapes = {call.shape for call in calls}
        self.inputs = {shape: torch.randn(shape, generator=g).to(cast.device) for shape in sorted(shapes)}
        self.middle = cast.schedule.T // 2

    def __call__(self) -> None:
        for call in self.calls:
            x = self.inputs[call.shape]
            if call.gradient:
                with torch.enable_grad():
                    x = x.detach().requires_grad_()
                    torch.autograd.grad(self.forward(call.name, x).sum(), x)
            else:
                with torch.no_grad():
                    self.forward(call.name, x)

    def forward(self, name: str, x: Tensor) -> Tensor:
        if name == "diffusion":
            return self.cast.denoise(x, self.middle)
        if name == "guide":
            return self.cast.guide_log_prob(x, self.middle)
        return self.networks[name](x)


class Graphs(Replay):
    """The same calls as CUDA graphs, one for each kind of call, recorded once."""

    def __init__(self, cast: Cast, calls: list[Call]) -> None:
        super().__init__(cast, calls)
        self.graphs: dict[Call, torch.cuda.CUDAGraph] = {}
        for call in dict.fromkeys(calls):
            self.calls = [call]
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # kernels are chosen and memory is taken before a recording
                for _ in range(3):
                    super().__call__()
            torch.cuda.current_stream().wait_stream(aside)
            self.graphs[call] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graphs[call]):
                super().__call__()
        self.calls = calls

    def __call__(self) -> None:
        for call in self.calls:
            self.graphs[call].replay()


def graphs_of(cast: Cast, calls: list[Call]) -> Graphs | None:
    """The calls as graphs; None where there is no GPU, or a network that cannot be recorded."""
    if cast.device.type != "cuda":
        return None
    try:
        return Graphs(cast, calls)
    except RuntimeError as error:
        print(f"no CUDA graphs: {error}".splitlines()[0])
        return None


def timed(function: Any, device: torch.device) -> tuple[float, Any]:
    """Seconds that `function` takes, and what it returns."""
    start = time.perf_counter()
    value = function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, value


def main() -> None:
    options = _parser().parse_args()
    given = {k: json.loads(v) for k, _, v in (item.partition("=") for item in options.set)}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        values = {"data": options.data, "weights": options.weights, "from": options.start, "limit": options.limit}
        values |= {"seed": options.seed, "threads": options.threads, "device": options.device, "force": True}
        settings = resolve(TranslateSettings, None, {**values, "out": Path(scratch) / "run.h5", **given})
        result = measure(settings, options.repeats)
        if options.profile:
            profile(settings)
    print(words(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(settings: TranslateSettings, repeats: int) -> dict[str, Any]:
    """Run and replay in turns; every figure that the benchmark states."""
    cast, calls = record(settings.model_copy(update={"compile": False}))
    replay = Replay(cast, calls)
    if settings.compile:
        workflow.translate(settings)  # what takes minutes is done once, and kept on disk by torch
    replay()
    graphs = graphs_of(cast, calls)
    runs, startups, bares, recorded = [], [], [], []
    for _ in range(repeats):
        whole, figures = timed(lambda: workflow.translate(settings), cast.device)
        runs.append(figures.seconds_per_image * figures.images)
        startups.append(whole - runs[-1])
        bares.append(timed(replay, cast.device)[0])
        if graphs is not None:
            recorded.append(timed(graphs, cast.device)[0])
    over_graphs = [run / bare for run, bare in zip(runs, recorded, strict=False)]
    ratios = [run / bare for run, bare in zip(runs, bares, strict=True)]
    counts = Counter(f"{call.name}{' with gradient' if call.gradient else ''}" for call in calls)
    return {
        "benchmark": "engine",
        "version": __version__,
        "images": figures.images,
        "batch_size": settings.batch_size,
        "shape": list(calls[0].shape[1:]),
        "seed": settings.seed,
        "repeats": repeats,
        "device": torch.cuda.get_device_name(cast.device) if cast.device.type == "cuda" else str(cast.device),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "calls": dict(sorted(counts.items())),
        "ratio": spread(ratios),
        "run_seconds": spread(runs),
        "bare_seconds": spread(bares),
        "startup_seconds": spread(startups),
        "images_per_second": spread([figures.images / run for run in runs]),
        **({"graph_seconds": spread(recorded), "ratio_to_graphs": spread(over_graphs)} if recorded else {}),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def profile(settings: TranslateSettings) -> None:
    """Print the functions that one run spent most time in, without what they call."""
    profiler = cProfile.Profile()
    profiler.runcall(workflow.translate, settings)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def words(result: dict[str, Any]) -> str:
    """What is printed: medians, smallest and largest of the repeats."""

    def show(name: str, digits: int) -> str:
        median, low, high = (f"{result[name][key]:.{digits}f}" for key in ("median", "min", "max"))
        return f"{median} ({low} to {high})"

    calls = ", ".join(f"{count} {role}" for role, count in result["calls"].items())
    n, batch, shape = result["images"], result["batch_size"], tuple(result["shape"])
    by_graphs = "no GPU: not compared with CUDA graphs"
    if "graph_seconds" in result:
        by_graphs = f"over CUDA graphs of the calls {show('ratio_to_graphs', 3)}, {show('graph_seconds', 3)} s"
    where = f"{result['device']}, {result['threads']} threads, load {result['load']:.1f}"
    return "\n".join(
        [
            f"translate over bare network calls: {show('ratio', 3)}, median (min to max) of {result['repeats']}",
            f"run {show('run_seconds', 2)} s, bare {show('bare_seconds', 2)} s, start {show('startup_seconds', 2)} s",
            f"{show('images_per_second', 1)} images/s; {by_graphs}",
            f"n = {n} images {shape}, batches of {batch}, seed {result['seed']}, {where}",
            f"network calls on batches: {calls}",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="malaria-cells", help="bundled name, folder, .csv, .npz or .h5")
    parser.add_argument("--weights", help="bundled name or folder with the four models [default: those of --data]")
    parser.add_argument("--from", dest="start", default="negative", help="class to start from")
    parser.add_argument("--limit", type=int, default=64, help="images")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="other settings, as steps=30")
    parser.add_argument("--scratch", type=Path, help="folder for the results, to measure its disk")
    parser.add_argument("--profile", action="store_true", help="also show where one run spends its time")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser


if __name__ == "__main__":
    main()
