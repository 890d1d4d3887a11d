"""Unsound inputs of every kind: a command ends well or with one sentence, and nothing else ever happens.

Never a traceback, a crash, a hang, more than 2 GB, or a file that is left half-written. CI tries the cases that
corpus.KINDS says, 1,280 of them; `make fuzz N=20000` tries as many as one likes, and with FIRST=160 other ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from robustness import corpus

N = int(os.environ.get("FUZZ_N", "0"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
ONLY = os.environ.get("FUZZ_KIND", "")
HERE = Path(__file__).parent
GOOD = ("ended", "said", "not made")
SOUND = 3
"""Cases of each kind that are not mutated: they must end well, or nothing behind a refusal would ever be tried."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, toys: ModuleType) -> Path:
    """The sound files."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus.write(folder)
    toys.save_unet(folder / "diffusion.safetensors", toys.toy_unet())
    toys.save_classifier(folder / "guide.safetensors", toys.toy_classifier(1, True))
    toys.save_classifier(folder / "checker.safetensors", toys.toy_classifier(2))
    return folder


def planned() -> dict[str, range]:
    """Kind -> the numbers of its cases."""
    whole = sum(kind.cases for kind in corpus.KINDS.values())
    share = {name: kind.cases if not N else -(-N * kind.cases // whole) for name, kind in corpus.KINDS.items()}
    return {name: range(FIRST or -SOUND, FIRST + n) for name, n in share.items() if not ONLY or name in ONLY.split("+")}


def tried(inputs: Path, work: Path, plan: dict[str, range]) -> Iterator[dict[str, str]]:
    """How each case ended; a child that dies is buried, and another one goes on behind that case."""
    todo = dict(plan)
    while todo:
        ranges = [f"{kind}:{numbers.start}:{numbers.stop}" for kind, numbers in todo.items() if len(numbers)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, str(HERE / "child.py"), str(inputs), str(work), *ranges]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as child:
            assert child.stdout is not None and child.stderr is not None
            at: dict[str, str] | None = None
            for line in child.stdout:
                said = json.loads(line)
                kind, number = said["kind"], int(said["number"])
                todo[kind] = range(number + 1, plan[kind].stop)
                at = said
                if said["how"] != "begun":
                    yield said
            errors = child.stderr.read()
            code = child.wait()
        if code == 0:
            return
        if at is None or at["how"] != "begun":
            raise AssertionError(f"the child ended with {code} between two cases: {errors[-2000:]}")
        name = signal.Signals(-code).name if code < 0 else str(code)
        yield {**at, "how": "crashed", "words": f"{name}: {errors[-2000:]}"}
        done = list(plan)[: list(plan).index(at["kind"])]
        todo = {kind: numbers for kind, numbers in todo.items() if kind not in done}


@pytest.mark.slow
def test_unsound_inputs_end_well_or_with_one_sentence(
    inputs: Path, tmp_path: Path, make_run: Callable[..., Path], make_bags: Callable[..., Path]
) -> None:
    make_run(12, size=12).rename(inputs / "run.h5")
    make_bags(2).rename(inputs / "bags.h5")
    plan = planned()
    found = list(tried(inputs, tmp_path, plan))
    counts = Counter((one["kind"], one["how"]) for one in found)
    summary = ", ".join(f"{kind} {how}: {n}" for (kind, how), n in sorted(counts.items()))
    print(summary)
    bad = [one for one in found if one["how"] not in GOOD]
    shown = "\n\n".join(f"{one['kind']}:{one['number']} {one['how']}\n{one['words'][-1500:]}" for one in bad[:20])
    assert not bad, f"{len(bad)} of {len(found)}\n{shown}\n{summary}"
    assert len(found) == sum(map(len, plan.values()))
    refused = [f"{one['kind']}: {one['words']}" for one in found if one["number"] < 0 and one["how"] != "ended"]  # type: ignore[operator]
    assert not refused, "\n".join(refused)
