"""Work on a real Ray cluster of two nodes: workers and drivers die, and nothing is lost, done twice, or different."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raycluster
import raywork

from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.errors import UserError
from cfdiff.evaluate.run import evaluate
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.translate.run import translate
from cfdiff.workers.crew import Elsewhere, crew

pytest.importorskip("ray", reason="Ray is not installed: pip install 'cfdiff[ray]'")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with raycluster.cluster(2) as found:
        yield found


def start(out: Path, address: str, parts: int, seconds: float) -> subprocess.Popen[bytes]:
    """A driver in a process of its own."""
    command = [sys.executable, raywork.__file__, str(out), address, str(parts), "2", str(seconds)]
    return subprocess.Popen(command)


def finished(out: Path) -> int:
    """Parts that are there of a run that is not joined yet."""
    return len(list(out.with_name(out.name + ".parts").glob("part-????????.h5")))


def wait_for(out: Path, count: int, driver: subprocess.Popen[bytes]) -> None:
    while finished(out) < count:
        assert driver.poll() is None, "the driver ended before it was killed"
        time.sleep(0.02)


def times_done(out: Path) -> Counter[int]:
    """How often each part was written."""
    return Counter(int(path.name.split("-")[0]) for path in out.with_name(out.name + ".notes").glob("done/*"))


def doom(out: Path, starts: list[int]) -> None:
    """Have the worker of each of these parts die of it."""
    folder = out.with_name(out.name + ".notes") / "doomed"
    folder.mkdir(parents=True)
    for number in starts:
        (folder / str(number)).touch()


@pytest.mark.slow
def test_workers_and_the_driver_are_killed_and_nothing_is_lost_or_different(address: str, tmp_path: Path) -> None:
    parts, out, alone = 30, tmp_path / "run.h5", tmp_path / "alone.h5"
    raywork.run(alone, raywork.Shared(), parts)
    doom(out, [8, 40])  # one before the driver is killed, one after
    driver = start(out, address, parts, 0.05)
    wait_for(out, 10, driver)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert not out.exists()
    before = finished(out)
    assert start(out, address, parts, 0.0).wait() == 0
    assert out.read_bytes() == alone.read_bytes()
    done = times_done(out)
    assert set(done) == set(range(0, parts * raywork.PART, raywork.PART))
    # What was finished is not done again; what two workers had in hand when the driver died may be.
    assert before >= 10 and sum(done.values()) <= parts + 2
    workers = {path.name for path in out.with_name("run.h5.notes").glob("workers/*")}
    assert len(workers) >= 5  # two of each driver, and those that took the place of one that died
    assert not list(out.with_name("run.h5.notes").glob("doomed/*")), "every death that was asked for took place"


@pytest.mark.slow
@pytest.mark.large
def test_a_thousand_parts_with_a_tenth_of_the_workers_killed(address: str, tmp_path: Path) -> None:
    """100 deaths of workers in 1,000 parts, half of them at any moment from outside, and three deaths of the driver."""
    parts, out, alone = 1000, tmp_path / "run.h5", tmp_path / "alone.h5"
    raywork.run(alone, raywork.Shared(), parts)
    chance = random.Random(0)
    doom(out, [raywork.PART * part for part in chance.sample(range(parts), 50)])
    ended = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while not ended.wait(chance.uniform(0.2, 1.0)) and len(killed) < 50:
            folder = out.with_name("run.h5.notes") / "workers"
            alive = [int(path.name) for path in folder.glob("*") if Path("/proc", path.name).exists()]
            if alive:
                killed.append(chance.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for count in (200, 450, 700):
            driver = start(out, address, parts, 0.02)
            wait_for(out, count, driver)
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
        assert start(out, address, parts, 0.02).wait() == 0
    finally:
        ended.set()
        killer.join()
    assert out.read_bytes() == alone.read_bytes()
    done = times_done(out)
    assert set(done) == set(range(0, parts * raywork.PART, raywork.PART))
    assert sum(done.values()) <= parts + len(killed) + 2 * 3
    assert not list(out.with_name("run.h5.notes").glob("doomed/*"))


@pytest.mark.slow
def test_workers_of_this_machine_need_no_cluster(tmp_path: Path) -> None:
    out, alone = tmp_path / "run.h5", tmp_path / "alone.h5"
    raywork.run(alone, raywork.Shared(), 6)
    # In a process of its own: Ray that was started and ended in this one would take the cluster's nodes along.
    command = [sys.executable, raywork.__file__, str(out), "here", "6", "2", "0.05"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()[-1])
    assert out.read_bytes() == alone.read_bytes()
    assert told["workers"] and told["driver"] not in told["workers"]
    assert not told["left"], "what the run has started it has ended"


@pytest.fixture
def connected(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This process as a driver, so that a test need not connect for each run."""
    import ray

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    yield address
    ray.shutdown()


class Echo:
    """Returns what it is given, and refuses what is negative."""

    def __call__(self, piece: int) -> tuple[int, int]:
        if piece < 0:
            raise UserError(f"There is no piece {piece}: give another.")
        if piece > 99:
            raise ValueError("a mistake of the program")
        return piece, os.getpid()


def echo() -> Echo:
    return Echo()


@pytest.mark.slow
def test_every_worker_works_and_what_is_wrong_is_said_as_in_one_process(connected: str, tmp_path: Path) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    s = raywork.Shared(2, connected)
    with crew(s, echo, Elsewhere(echo, ())) as workers:
        found = dict(workers.do(range(20)))
        assert {piece: answer[0] for piece, answer in found.items()} == {piece: piece for piece in range(20)}
        assert os.getpid() not in {answer[1] for answer in found.values()}
        with pytest.raises(UserError, match=r"There is no piece -1: give another\."):
            list(workers.do([-1]))
        assert [answer[0] for _, answer in workers.do([7])] == [7]  # they are still there
        with pytest.raises(ValueError, match="a mistake of the program"):
            list(workers.do([100]))
    with pytest.raises(UserError, match="cuda, and Ray knows no GPU"):
        crew(raywork.Shared(2, connected, device="cuda"), echo, Elsewhere(echo, ()))
    with pytest.raises(UserError, match="takes 64 CPUs"):
        crew(raywork.Shared(None, connected, threads=64), echo, Elsewhere(echo, ()))


@pytest.mark.slow
def test_a_translation_by_workers_has_the_bytes_of_one_process_and_so_has_its_evaluation(
    connected: str, toy: Any, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone.h5", tmp_path / "shared.h5"
    quick = {"limit": 12, "batch_size": 4, "threads": 1}
    translate(toy.settings(alone, **quick))
    told: list[tuple[str, int, int]] = []
    translate(toy.settings(shared, **quick, workers=2, ray=connected), lambda *what: told.append(what))
    assert shared.read_bytes() == alone.read_bytes()
    assert [done for _, done, _ in told] == [4, 8, 12]

    asked = {"weights": str(toy.weights), "data": str(toy.data), "device": "cpu", "threads": 1, "round_trip": True}
    asked |= {"bootstrap": 20, "fractions": 4, "batch_size": 4, "realism": False}
    one = evaluate(EvaluateSettings(run=alone, save=tmp_path / "one.h5", **asked))
    both = evaluate(EvaluateSettings(run=alone, save=tmp_path / "both.h5", workers=2, ray=connected, **asked))
    assert both.as_json() == one.as_json()
    assert (tmp_path / "both.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [pytest.param("instance", marks=pytest.mark.large), "joint"])
def test_bags_by_workers_have_the_bytes_of_one_process_and_so_have_their_features(
    connected: str, toy: Any, tmp_path: Path, mode: str
) -> None:
    quick = {"data": str(toy.data), "weights": str(toy.weights), "device": "cpu", "batch_size": 3, "threads": 1}
    quick |= {"steps": 4, "depth": 0.4, "retries": 0, "mix": "0,1", "bags": 2, "mode": mode}
    for name, who in (("alone", {}), ("shared", {"workers": 2, "ray": connected})):
        bag(BagSettings(**quick, **who, out=tmp_path / f"{name}.h5", export=("npz", tmp_path / name)))
    assert (tmp_path / "shared.h5").read_bytes() == (tmp_path / "alone.h5").read_bytes()
    files = sorted(path.name for path in (tmp_path / "alone").glob("*.npz"))
    assert files == sorted(path.name for path in (tmp_path / "shared").glob("*.npz")) and len(files) == 4
    for name in files:
        with np.load(tmp_path / "alone" / name) as a, np.load(tmp_path / "shared" / name) as b:
            np.testing.assert_array_equal(a["features"], b["features"])
