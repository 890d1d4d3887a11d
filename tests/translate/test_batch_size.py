"""--batch-size auto: a run has one number, whoever found it first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfdiff.edit import batch
from cfdiff.errors import UserError
from cfdiff.join.run import join
from cfdiff.join.settings import JoinSettings
from cfdiff.shard import ShardSummary
from cfdiff.translate.run import translate
from cfdiff.translate.summary import TranslateSummary


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have `--batch-size auto` find that number."""

    def find(number: int) -> None:
        monkeypatch.setattr(batch, "found", lambda *given: batch.BatchSize(number, True, "a GPU holds no more"))

    return find


def test_the_batch_size_that_was_found_is_the_run_s_and_is_said(
    toy: Any, tmp_path: Path, finds: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    quick = {"limit": 12, "steps": 2, "retries": 0, "threads": 1}
    asked, out = tmp_path / "asked.h5", tmp_path / "run.h5"
    translate(toy.settings(asked, batch_size=4, **quick))
    assert capsys.readouterr().err == ""

    def stop(what: str, done: int, n: int) -> None:
        raise KeyboardInterrupt

    finds(4)
    with pytest.raises(KeyboardInterrupt):
        translate(toy.settings(out, batch_size="auto", **quick), stop)
    assert capsys.readouterr().err == "Batch size 4: a GPU holds no more.\n"
    finds(2)  # on another card
    done = translate(toy.settings(out, batch_size="auto", **quick), lambda what, done, n: None)
    assert capsys.readouterr().err == "Batch size 4: as the run states it that is there.\n"
    assert isinstance(done, TranslateSummary) and done.batch_size == 4
    assert done.as_json()["batch_size_because"] == "as the run states it that is there"
    assert out.read_bytes() == asked.read_bytes()
    before = out.stat().st_mtime_ns
    translate(toy.settings(out, batch_size="auto", **quick), lambda what, done, n: None)
    assert out.stat().st_mtime_ns == before and capsys.readouterr().err == ""
    with pytest.raises(UserError, match="exists already"):
        translate(toy.settings(out, batch_size=2, **quick))


def test_shards_that_start_at_once_on_other_cards_agree_on_a_batch_size(
    toy: Any, tmp_path: Path, finds: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"limit": 6, "steps": 2, "retries": 0, "threads": 1}
    asked, out = tmp_path / "asked.h5", tmp_path / "run.h5"
    translate(toy.settings(asked, batch_size=3, **quick))
    monkeypatch.setattr(batch, "stated_batch", lambda *given: None)  # each looked before any had stated one
    for number, here in ((1, 3), (2, 1)):
        finds(here)
        done = translate(toy.settings(out, batch_size="auto", shard=f"{number}/2", **quick))
        assert isinstance(done, ShardSummary) and (done.pieces, done.images, done.batch_size) == (1, 3, 3)
    join(JoinSettings(run=out))
    assert out.read_bytes() == asked.read_bytes()
