"""Translations of machines that share no folder: data and parts lie at URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stores import memory
from typer.testing import CliRunner

from cfdiff.cli.app import app
from cfdiff.errors import UserError
from cfdiff.join.run import join
from cfdiff.join.settings import JoinSettings
from cfdiff.store import open_result
from cfdiff.translate.run import translate

__all__ = ["memory"]
QUICK = {"limit": 12, "batch_size": 4, "threads": 1}


def test_shards_without_a_shared_folder_and_their_join_make_the_file_of_one_process(
    toy: Any, tmp_path: Path, memory: Any
) -> None:
    alone, out = tmp_path / "alone.h5", tmp_path / "joined" / "run.h5"
    whole = translate(toy.settings(alone, **QUICK))
    out.parent.mkdir()
    for number in (3, 1):
        folder = tmp_path / f"machine-{number}"
        folder.mkdir()
        found = translate(toy.settings(folder / "run.h5", **QUICK, shard=f"{number}/3", remote="memory://u:pw@b/run"))
        assert found.rows()[-1] == ("when all shards are", "cfdiff join run.h5 --remote memory://b/run")
    with pytest.raises(UserError, match=r"1 of 3 parts are missing.*--shard K/3 for K = 2\."):
        join(JoinSettings(run=out, remote="memory://u:pw@b/run"))
    translate(toy.settings(tmp_path / "machine-3" / "run.h5", **QUICK, shard="2/3", remote="memory://u:pw@b/run"))
    told: list[str] = []
    joined = join(JoinSettings(run=out, remote="memory://u:pw@b/run"), lambda what, done, n: told.append(what))
    assert out.read_bytes() == alone.read_bytes() and "fetching parts" in told
    assert joined.as_json()["flipped_judge"] == whole.as_json()["flipped_judge"]
    assert memory.find("/") == []


def test_a_result_has_the_url_of_its_data_and_no_secret(
    toy: Any, tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFDIFF_CACHE", str(tmp_path / "cache"))
    memory.put(str(toy.data), "/key:hidden@b/toy.npz")
    out, local = tmp_path / "run.h5", tmp_path / "local.h5"
    given = {**QUICK, "steps": 2, "retries": 0, "limit": 4}
    url = "memory://key:hidden@b/toy.npz?sign=hidden"
    memory.put(str(toy.data), "/key:hidden@b/toy.npz?sign=hidden")
    translate(toy.settings(out, **given, data=url, weights=str(toy.weights), remote="memory://key:hidden@b/run"))
    translate(toy.settings(local, **given, data=str(toy.data), weights=str(toy.weights)))
    with open_result(out) as r, open_result(local) as here:
        assert r.settings == here.settings | {"data": "memory://b/toy.npz"}
        assert all((r[name][:] == here[name][:]).all() for name in here.names)
    assert b"hidden" not in out.read_bytes()


def test_the_command_line_says_in_one_sentence_what_is_wrong_with_an_url(toy: Any, tmp_path: Path) -> None:
    words = ["translate", "--data", str(toy.data), "--weights", str(toy.weights), "--out", str(tmp_path / "run.h5")]
    for url, said in (("nowhere://b/run", "Protocol not known"), (str(tmp_path), "is no URL")):
        with pytest.raises(UserError, match=said):
            CliRunner().invoke(app, [*words, "--remote", url], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []
