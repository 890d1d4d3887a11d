"""Tries cases one after the other, each with limits of time and memory, and says in a line how it ended.

    python child.py CORPUS WORK KIND:FIRST:LAST ...

A line says "begun" before, so that whoever reads knows in which case the process died.
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sys
import traceback
import warnings
from pathlib import Path
from types import FrameType

from robustness import corpus

from cfdiff.errors import UserError

SECONDS = float(os.environ.get("CASE_SECONDS", "60"))
MEMORY = 2 << 30


class TooLong(BaseException):
    """A case that took longer than it may."""


def late(number: int, frame: FrameType | None) -> None:
    raise TooLong


def outcome(kind: str, path: Path) -> tuple[str, str]:
    """How a case ended: "ended", "said", or what is wrong with it, and the words."""
    try:
        corpus.KINDS[kind].read(path)
        return "ended", ""
    except UserError as error:
        words = str(error)
        sound = words.endswith((".", "?")) and "\n" not in words and len(words) < 1500 and "Traceback" not in words
        return ("said" if sound else "badly said"), words
    except TooLong:
        return "hung", ""
    except BaseException:
        return "traceback", traceback.format_exc()


def limit_memory() -> None:
    """Two GB more than what the process has now."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))


def main(root: Path, work: Path, ranges: list[str]) -> None:
    import torch

    import cfdiff.report.run
    import cfdiff.translate.summary  # noqa: F401  (what a case would otherwise import under its limits)

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, late)
    limit_memory()
    for words in ranges:
        kind, first, last = words.split(":")
        for number in range(int(first), int(last)):
            folder = work / "case"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            try:
                path = corpus.case(root, kind, number, folder)
            except Exception:  # a mutation that HDF5 itself refuses to write is no case
                print(corpus.says(kind, number, "not made", traceback.format_exc()), flush=True)
                continue
            print(corpus.says(kind, number, "begun", ""), flush=True)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                how, said = outcome(kind, path)
            except TooLong:
                how, said = "hung", ""
            signal.setitimer(signal.ITIMER_REAL, 0)
            left = [p.name for p in folder.rglob("*.tmp")]
            if left:
                how, said = "left behind", f"{left} after: {how} {said}"
            print(corpus.says(kind, number, how, said), flush=True)
            if number % 20 == 0:
                gc.collect()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
