"""Translations in shards of a job array, and their join."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cfdiff.cli.app import app
from cfdiff.data import raw
from cfdiff.errors import UserError
from cfdiff.join.run import join
from cfdiff.join.settings import JoinSettings
from cfdiff.shard import ShardSummary
from cfdiff.store import open_result
from cfdiff.translate.run import translate

QUICK = {"limit": 12, "batch_size": 4, "threads": 1}


def test_shards_and_their_join_make_the_file_of_one_process(toy: Any, tmp_path: Path) -> None:
    alone, out = tmp_path / "alone.h5", tmp_path / "run.h5"
    whole = translate(toy.settings(alone, **QUICK))
    for number in (3, 1):
        found = translate(toy.settings(out, **QUICK, shard=f"{number}/3"))
        assert isinstance(found, ShardSummary)
        assert (found.pieces, found.images, found.title) == (1, 4, f"shard {number} of 3")
    with pytest.raises(UserError, match=r"1 of 3 parts are missing.*--shard K/3 for K = 2\."):
        join(JoinSettings(run=out))
    told: list[tuple[str, int, int]] = []
    translate(toy.settings(out, **QUICK, shard="2/3"), lambda *what: told.append(what))
    assert told == [("translating", 4, 4)]
    joined = join(JoinSettings(run=out))
    assert out.read_bytes() == alone.read_bytes()
    left_out = {"result", "seconds_per_image"}
    assert {k: v for k, v in joined.as_json().items() if k not in left_out} == {
        k: v for k, v in whole.as_json().items() if k not in left_out
    }
    again = join(JoinSettings(run=out))  # as after one that was killed when the file was in its place
    assert again.as_json() == joined.as_json() and out.read_bytes() == alone.read_bytes()
    with pytest.raises(UserError, match="nothing to join"):
        join(JoinSettings(run=out, force=True))
    with pytest.raises(UserError, match="nothing to join"):
        join(JoinSettings(run=tmp_path / "other.h5"))


def test_a_second_shard_reads_no_file_to_know_the_data_and_notices_a_change(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfdiff.data.seen._SETTLED", -1.0)
    data, calls, file_sha256 = tmp_path / "d.npz", list[Path](), raw.file_sha256
    shutil.copy(toy.data, data)
    monkeypatch.setattr(raw, "file_sha256", lambda path: calls.append(path) or file_sha256(path))
    given = {**QUICK, "data": str(data), "weights": str(toy.weights)}
    translate(toy.settings(tmp_path / "run.h5", **given, shard="1/3"))
    assert calls == [data]
    translate(toy.settings(tmp_path / "run.h5", **given, shard="3/3"))
    assert calls == [data]
    with np.load(data) as file:
        arrays = dict(file)
    arrays["images"] = arrays["images"] ^ 1
    np.savez(data, **arrays)
    with pytest.raises(UserError, match="data_sha256 was"):
        translate(toy.settings(tmp_path / "run.h5", **given, shard="2/3"))
    assert calls == [data, data]


def test_the_command_line_says_what_a_shard_did_and_joins(toy: Any, tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    words = ["translate", "--data", str(toy.data), "--weights", str(toy.weights), "--out", str(out), "--device", "cpu"]
    words += ["--steps", "2", "--retries", "0", "--limit", "4", "--batch-size", "2"]
    for number in (1, 2):
        done = CliRunner().invoke(app, [*words, "--shard", f"{number}/2", "--json"], catch_exceptions=False)
        assert done.exit_code == 0
        assert json.loads(done.stdout) == {
            **{"result": "run.h5", "shard": f"{number}/2", "pieces": 1, "images": 2},
            **{"batch_size": 2, "batch_size_because": None, "complete": False},
        }
    done = CliRunner().invoke(app, ["join", str(out), "--json", "--volume", "3"], catch_exceptions=False)
    assert done.exit_code == 0 and json.loads(done.stdout)["images"] == 4
    assert len(volumes := sorted(tmp_path.glob("run.*-*.h5"))) == 2
    alone = [*words[:6], str(tmp_path / "alone.h5"), *words[7:]]
    done = CliRunner().invoke(app, [*alone, "--volume", "2"], catch_exceptions=False)
    with open_result(out) as run, open_result(tmp_path / "alone.h5") as other:
        assert all(np.array_equal(run[name][:], other[name][:]) for name in other.names)
        assert other.settings == run.settings and "volume" not in run.settings
    volumes[1].unlink()
    with pytest.raises(UserError, match="not beside it"):
        CliRunner().invoke(app, ["report", str(out), "--out", str(tmp_path / "no.html")], catch_exceptions=False)


@pytest.mark.parametrize(
    ("shard", "said"), [("0/4", "where an array counts from 0, add 1"), ("3", "as 3/100"), ("5/4", "1/4 to 4/4")]
)
def test_what_is_no_shard_is_refused(toy: Any, tmp_path: Path, shard: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        toy.settings(tmp_path / "run.h5", shard=shard)


def test_a_shard_makes_no_preview(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shard makes no preview"):
        translate(toy.settings(tmp_path / "run.h5", shard="1/2", preview=tmp_path / "run.png"))
