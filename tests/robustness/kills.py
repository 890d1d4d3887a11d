"""The program, started again and again in forks of one process that has imported everything, and disturbed.

    python kills.py DATA WEIGHTS WORK JOB KILLS SEED
    python kills.py DATA WEIGHTS WORK JOB THOROUGH          faults, of which 1 tries all

Kills runs of JOB at random moments (SIGKILL), lets each end after one to three of them, and prints as JSON how many
there were, and everything that was not as it is undisturbed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import h5py
from safetensors import safe_open


class Job(NamedTuple):
    """The words of the command, what it writes below `out`, and what of that must be the same, as a hash."""

    words: Callable[[str, str, Path], list[str]]
    digest: Callable[[Path], str]


def _file(out: Path) -> str:
    """Every byte of the result, and that nothing is beside it."""
    return hashlib.sha256((out / "run.h5").read_bytes()).hexdigest() + " beside it: " + str(sorted(os.listdir(out)))


def _model(out: Path) -> str:
    """Every number of the model; its card holds minutes."""
    with safe_open(out / "training" / "model.safetensors", "np") as file:
        numbers = [(name, file.get_tensor(name).tobytes()) for name in sorted(file.keys())]
    left = sorted(name for name in os.listdir(out / "training") if name.endswith((".tmp", ".lock")))
    return hashlib.sha256(repr(numbers).encode()).hexdigest() + f" left: {left}"


def _fit(out: Path) -> str:
    """The names of all files, the splits, and that models and results can be opened: how far a model is, and how many
    images are shown, depends on the clock."""
    from cfdiff.models.checkpoint import load_model
    from cfdiff.store import open_result

    folder = out / "fit"
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    # Pictures of validations are called by their step, and there are as many as there was time for.
    kept = [name for name in names if "/images-" not in name and "/samples-" not in name]
    for path in folder.glob("*/model.safetensors"):
        load_model(path)
    for path in folder.glob("*.h5"):
        with open_result(path) as result:
            assert len(result["id"])
    return f"{kept} {hashlib.sha256((folder / 'splits.csv').read_bytes()).hexdigest()}"


def _measured(out: Path) -> str:
    """The figures of an evaluation, and that nothing is beside them."""
    return (out / "figures.json").read_text() + " beside it: " + str(sorted(os.listdir(out)))


_EDIT = ["--device=cpu", "--threads=1", "--steps=3", "--retries=1", "--batch-size=2"]
JOBS = {
    "evaluate": Job(
        lambda data, weights, out: (
            ["evaluate", str(Path(data).with_name("run.h5")), f"--data={data}", f"--weights={weights}", "--force"]
            + [f"--out={out / 'figures.json'}", f"--save={out / 'figures.h5'}", "--device=cpu", "--threads=1"]
        ),
        _measured,
    ),
    "translate": Job(
        lambda data, weights, out: (
            ["translate", f"--data={data}", f"--weights={weights}", f"--out={out / 'run.h5'}"] + ["--limit=10", *_EDIT]
        ),
        _file,
    ),
    "bag-instance": Job(
        lambda data, weights, out: (
            ["bag", f"--data={data}", f"--weights={weights}", f"--out={out / 'run.h5'}"]
            + ["--sweep=0.25:0.75:0.25", *_EDIT]
        ),
        _file,
    ),
    "bag-joint": Job(
        lambda data, weights, out: (
            ["bag", f"--data={data}", f"--weights={weights}", f"--out={out / 'run.h5'}"]
            + ["--mode=joint", "--mix=0.5", *_EDIT]
        ),
        _file,
    ),
    "train-classifier": Job(
        lambda data, weights, out: (
            ["train-classifier", f"--data={data}", f"--out={out / 'training'}"]
            + ["--clean", "--steps=20", "--eval-every=5", "--batch-size=4", "--device=cpu", "--threads=1"]
        ),
        _model,
    ),
    "fit": Job(
        lambda data, weights, out: (
            ["fit", str(Path(data).with_name("many.npz")), f"--out={out / 'fit'}"]
            + ["--minutes=4", "--device=cpu", "--threads=1"]
        ),
        _fit,
    ),
}


QUICK = {"train-classifier": ["SIGTERM", "half the room"], "evaluate": ["full at the end"]}
"""The faults that CI tries of jobs that take long to begin; of the others it tries most."""


def start(words: Sequence[str], log: Path, before: Callable[[], None] = lambda: None) -> int:
    """A fork that is `cfdiff WORDS`; its number. What it prints goes to `log`."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        before()
        sys.argv = ["cfdiff", *words]
        from cfdiff.cli.app import main

        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(pid: int, seconds: float = 600.0) -> int:
    """The exit code of a fork, minus the signal that ended it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"it did not end in {seconds} s")


def warm() -> None:
    """Import what every command needs, so that a fork begins at once."""
    import timm
    import torch

    import cfdiff.bag.run
    import cfdiff.cli.app
    import cfdiff.cli.bag
    import cfdiff.cli.translate
    import cfdiff.fit.run
    import cfdiff.train.classifier
    import cfdiff.translate.run

    torch.set_num_threads(1)
    _ = timm, cfdiff, h5py


def torment(name: str, data: str, weights: str, work: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill runs of a job at random moments, so many times in all."""
    job, rng = JOBS[name], random.Random(seed)
    calm = work / "calm"
    calm.mkdir(parents=True)
    begun = time.monotonic()
    code = ended(start(job.words(data, weights, calm), work / "log"))
    seconds = time.monotonic() - begun
    assert code == 0, (work / "log").read_text()
    expected, problems, done, runs, after = job.digest(calm), list[str](), 0, 0, 0
    while done < kills:
        out = work / f"run-{runs}"
        out.mkdir()
        runs += 1
        for _ in range(rng.randint(1, 3)):
            pid = start(job.words(data, weights, out), work / "log")
            time.sleep(rng.uniform(0, 1.1 * seconds))
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                after += 1
                if os.waitstatus_to_exitcode(status):
                    problems.append(f"run {runs}: {(work / 'log').read_text()[-1500:]}")
                continue
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            done += 1
        for once in ("to end", "again"):
            if code := ended(start(job.words(data, weights, out), work / "log")):
                problems.append(f"run {runs} {once}: exit {code}: {(work / 'log').read_text()[-1500:]}")
        found = job.digest(out) if not problems else ""
        if not problems and found != expected:
            problems.append(f"run {runs}: {found} instead of {expected}")
        shutil.rmtree(out)
    return {"job": name, "kills": done, "runs": runs, "ended before": after, "seconds": seconds, "problems": problems}


def sized(most: int) -> Callable[[], None]:
    """For a fork: no file grows beyond so many bytes, as on a disk that is full."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return limit


@contextmanager
def small_disk(out: Path, size: int) -> Iterator[Callable[[], object] | None]:
    """A file system in memory of so many bytes at `out`, and what makes it large; None where none can be mounted."""

    def mount(*words: str) -> bool:
        try:
            return subprocess.run(["mount", *words, str(out)], stderr=subprocess.DEVNULL).returncode == 0
        except FileNotFoundError:
            return False

    if not mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield None
        return
    try:
        yield lambda: mount("-o", "remount,size=2g")
    finally:
        subprocess.run(["umount", "--lazy", str(out)], check=True)


def disturb(name: str, data: str, weights: str, work: Path, thorough: bool) -> dict[str, dict[str, object]]:
    """What a job ends with that is told to stop, or whose disk is full; and whether the same command finishes it.

    A full disk is a limit on the size of a file, and where a file system can be mounted (as root), a real one that has
    no room: for half of what the job leaves; with `thorough` also for anything, and for that but not for what lies
    beside it meanwhile.
    """
    job, found = JOBS[name], dict[str, dict[str, object]]()
    calm = work / "calm"
    calm.mkdir(parents=True)
    begun = time.monotonic()
    assert ended(start(job.words(data, weights, calm), work / "log")) == 0, (work / "log").read_text()
    seconds, expected = time.monotonic() - begun, job.digest(calm)
    sizes = [path.stat().st_size for path in calm.rglob("*") if path.is_file()]
    final, whole = max(sizes, default=0), sum(sizes)

    def told(number: int) -> Callable[[Path], int]:
        def do(out: Path) -> int:
            pid = start(job.words(data, weights, out), work / "log")
            late = time.monotonic() + 0.7 * seconds
            while not [*out.rglob("part-*.h5"), *out.rglob("settings.json")] and time.monotonic() < late:
                time.sleep(0.005)
            time.sleep(0.05)
            os.kill(pid, number)
            return ended(pid)

        return do

    def alone(out: Path) -> int:
        return ended(start(job.words(data, weights, out), work / "log"))

    def full(most: int) -> Callable[[Path], int]:
        return lambda out: ended(start(job.words(data, weights, out), work / "log", sized(most)))

    def try_it(case: str, out: Path, do: Callable[[Path], int], before_again: Callable[[], object]) -> None:
        code = do(out)
        said = (work / "log").read_text()
        left = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.suffix in (".tmp", ".lock"))
        before_again()
        finished = code and alone(out)
        again = (work / "log").read_text()
        same = finished == 0 and job.digest(out) == expected
        found[case] = {"code": code, "said": said, "left": left, "same": same, "again": again}

    faults = {
        "SIGTERM": told(signal.SIGTERM),
        "SIGINT": told(signal.SIGINT),
        "full at once": full(2000),
        "full at the end": full(final - 1),
    }
    disks = {"no room": 4096, "half the room": whole // 2, "little more room": whole + 8192}
    cases = [*faults, *disks] if thorough else QUICK.get(name, [*faults, "half the room"])
    for case in cases:
        out = work / case.replace(" ", "-")
        out.mkdir()
        with small_disk(out, disks[case]) if case in disks else nullcontext(lambda: None) as grow:
            if grow is not None:
                try_it(case, out, faults.get(case, alone), grow)
    return found


if __name__ == "__main__":
    warm()
    if len(sys.argv) == 6:
        print(json.dumps(disturb(sys.argv[4], *sys.argv[1:3], Path(sys.argv[3]), sys.argv[5] == "1")))
        sys.exit()
    print(json.dumps(torment(sys.argv[4], *sys.argv[1:3], Path(sys.argv[3]), int(sys.argv[5]), int(sys.argv[6]))))
