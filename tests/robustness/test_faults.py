"""Processes that are told to stop, full disks, terminals that cannot show a name, pipes that close: a word, a code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robustness import kills

from cfdiff.errors import UserError
from cfdiff.store import check_output

CODES = {"SIGTERM": 143, "SIGINT": 130}
"""All others, of disks that are full: 2."""


@pytest.mark.slow
@pytest.mark.parametrize("job", ["translate", "train-classifier", "evaluate"])
def test_what_is_stopped_or_has_no_room_says_so_and_goes_on_when_the_command_is_given_again(
    world: tuple[Path, Path], tmp_path: Path, job: str
) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [*map(str, world), str(tmp_path / "work"), job, str(int("FUZZ_KILLS" in os.environ))]
    done = subprocess.run([sys.executable, kills.__file__, *words], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    for case, found in json.loads(done.stdout).items():
        assert found["code"] in (CODES.get(case, 2), 0), f"{case}: {found}"  # 0: it ended before it was told
        assert "Traceback" not in found["said"], f"{case}: {found['said']}"
        assert not found["left"], f"{case}: {found['left']}"
        assert found["same"], f"{case}: {found['again']}"
        if found["code"] == 143:
            then = "the same command again goes on with what is not finished."
            assert f"Stopped, as told (SIGTERM): {then}" in found["said"]
        if found["code"] == 2:
            (line,) = [line for line in found["said"].splitlines() if line.startswith("Error: ")]
            assert "free space there" in line


def cfdiff(*words: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "cfdiff", *words]
    return subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": path, **env})


@pytest.fixture
def odd_names(tmp_path: Path) -> Path:
    """Data whose names are of many scripts, markup and formulas."""
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8)).astype(np.uint8)
    labels = np.array(["健康[/b]", "$\\frac$癌"] * 2)
    ids = np.array(["[red]a", "$x", "ف\nb", "d" * 300])
    np.savez(tmp_path / "名.npz", images=images, labels=labels, id=ids, patient=ids)
    return tmp_path / "名.npz"


@pytest.mark.slow
@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}, {"COLUMNS": "12"}, {"TERM": "dumb"}])
def test_names_of_any_script_are_said_to_any_terminal_and_drawn(odd_names: Path, env: dict[str, str]) -> None:
    sheet = odd_names.with_suffix(".png")
    done = cfdiff("data", "inspect", str(odd_names), "--negative", "健康[/b]", "--sheet", str(sheet), **env)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr.decode()
    assert sheet.stat().st_size > 1000 and b"Glyph" not in done.stderr
    refused = cfdiff("data", "inspect", str(odd_names), "--negative", "没有", **env)
    assert refused.returncode == 2 and refused.stderr.startswith(b"Error: ") and refused.stderr.count(b"\n") == 1


@pytest.mark.slow
def test_a_pipe_that_closes_is_nobodys_mistake() -> None:
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-m", "cfdiff", "data", "ls", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        said = child.stderr.read()
        assert child.wait() == 141 and said == b""


@pytest.mark.slow
def test_a_table_for_a_pipe_that_has_closed_and_an_output_that_is_closed_end_as_they_should() -> None:
    """Many lines to a reader that takes one; and none at all to nobody."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    run = f"{sys.executable} -m cfdiff data inspect deeppcb"
    done = subprocess.run(
        ["bash", "-c", f"({run}; echo $? >&2) | true; {run} >&-; echo $? >&2"], capture_output=True, env=env, text=True
    )
    assert done.stderr.split() == ["141", "0"], done.stderr


@pytest.mark.slow
def test_an_output_that_has_no_room_is_one_sentence() -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "cfdiff", "data", "ls", "--json"]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=env)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1, done.stderr.decode()
    assert b"No space left on device" in done.stderr


@pytest.mark.parametrize(
    ("name", "words"), [("a\0b.h5", "can be no name"), ("x" * 240 + ".h5", "too long"), ("ü" * 120, "too long")]
)
def test_names_that_no_file_can_have_are_said_before_the_work(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_output(tmp_path / name)


def test_a_sentence_stays_on_its_line_and_is_no_page() -> None:
    said: Any = str(UserError("a\nb\x1b[31m" + "x" * 5000 + " end."))
    assert "\n" not in said and "\x1b" not in said and len(said) < 1300 and said.endswith(" end.")
