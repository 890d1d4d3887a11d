from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cfdiff.cli import app as program
from cfdiff.cli.translate import table
from cfdiff.store import open_result
from cfdiff.translate.settings import TranslateSettings
from cfdiff.translate.summary import TranslateSummary


@pytest.fixture
def cfdiff(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run `cfdiff translate` on the toys; what it prints."""

    def run(*arguments: Any) -> str:
        usual = ["--data", toy.data, "--weights", toy.weights, "--out", tmp_path / "run.h5", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["cfdiff", "translate", *map(str, [*usual, *arguments])])
        with pytest.raises(SystemExit) as ended:
            program.main()
        printed = capsys.readouterr()
        assert ended.value.code == 0, printed.err
        return printed.out

    return run


def test_the_command_line_wins_over_the_config_file_and_both_over_the_defaults(
    cfdiff: Callable[..., str], tmp_path: Path
) -> None:
    config = tmp_path / "run.toml"
    config.write_text('from = "sick"\nsteps = 5\nscale = 3.5\nlimit = 2\nretries = 0\nclosed_loop = false\n')
    cfdiff("--config", config, "--steps", 4)
    with open_result(tmp_path / "run.h5") as r:
        s = r.settings
        assert (s["from"], s["steps"], s["scale"], s["closed_loop"]) == ("sick", 4, 3.5, False)
        assert s["ratio"] == TranslateSettings().ratio and s["command"] == "translate"
        assert len(r) == 2 and r.attrs["direction"] == "positive (sick) -> negative (healthy)"
        assert set(r["guidance/network_calls"][:]) == {4 + 1 + 3}


def test_an_infinite_ratio_is_no_clamp(cfdiff: Callable[..., str], tmp_path: Path) -> None:
    cfdiff("--limit", 1, "--steps", 3, "--retries", 0, "--ratio", "inf")
    with open_result(tmp_path / "run.h5") as r:
        assert r.settings["ratio"] is None and r["guidance/ratio"][0] == float("inf")


def test_every_setting_but_places_is_in_the_result(cfdiff: Callable[..., str], tmp_path: Path) -> None:
    cfdiff("--limit", 1, "--steps", 3, "--retries", 0)
    places = {"out", "preview", "force", "json", "device", "threads", "workers", "ray", "shard", "remote"}
    places |= {"layout", "splits", "weights", "diffusion", "guide", "checker", "verifier", "judge", "image_text"}
    places |= {"control_model", "volume"}
    names = {field.alias or name for name, field in TranslateSettings.model_fields.items()}
    with open_result(tmp_path / "run.h5") as r:
        assert names - places <= set(r.settings)
        assert set(r.settings) - names == {"command", "data_sha256", "classes", "models"}


def test_json_is_one_object_that_any_parser_reads(cfdiff: Callable[..., str]) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    for limit in (1, 3):
        printed = cfdiff("--limit", limit, "--steps", 3, "--json", "--force")
        figures = json.loads(printed, parse_constant=refuse)
        assert figures["images"] == limit and 0 <= figures["flipped_judge"] <= 1
        assert figures["seconds_per_image"] > 0


def test_the_table_says_what_the_summary_holds(cfdiff: Callable[..., str], tmp_path: Path) -> None:
    printed = cfdiff("--limit", 3, "--steps", 3, "--preview", tmp_path / "run.png")
    for words in ("seen as the target by the judge", "by the checker", "mean |difference|", "retried", "seconds"):
        assert words in printed
    assert (tmp_path / "run.png").read_bytes()[:4] == b"\x89PNG"


def summary(**changes: Any) -> TranslateSummary:
    figures = {
        "direction": "a -> b",
        "result": "run.h5",
        "images": 1,
        "groups": None,
        "intervals_over": "images",
        "mean_abs_difference": 0.01,
        "mean_abs_difference_95": None,
        "retried": 0.0,
        "quarantined": 0,
        "network_calls": 8.0,
        "guide_calls": 3.0,
    }
    return TranslateSummary(**{**figures, **changes})


def test_one_image_has_no_interval_in_the_table() -> None:
    cells = list(map(str, table(summary()).columns[1].cells))
    assert "0.0100  (1 is the full range)" in cells and "nan" not in " ".join(cells)


def test_the_table_says_what_its_intervals_are_over(
    cfdiff: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    printed = " ".join(cfdiff("--limit", 4, "--steps", 3, "--retries", 0).split())
    assert "over 4 groups; before" in printed and "over 4 groups; 1 is the full range" in printed


def test_names_of_classes_are_not_read_as_markup() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(table(summary(direction="negative ([/a]) -> positive ([bold]b)", result="[/c].h5")))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "negative ([/a]) -> positive ([bold]b)" in printed and "[/c].h5" in printed


@pytest.mark.parametrize("guides", ["cfg", "noisy+clean+cfg"])
@pytest.mark.parametrize("base", ["none", "source"])
def test_a_model_that_knows_the_classes_guides_through_the_command(
    cfdiff: Callable[..., str], toy_told: Any, tmp_path: Path, guides: str, base: str
) -> None:
    quick = ["--weights", toy_told.weights, "--limit", 2, "--steps", 4, "--retries", 0, "--open-loop", "--base", base]
    cfdiff(*quick, "--guides", guides)
    with open_result(tmp_path / "run.h5") as r:
        assert (r.settings["w"], r.settings["base"]) == (3.0, base)
        assert (r.counterfactual[:] != r.source[:]).any(axis=(1, 2, 3)).all()
        # 5 up, 3 down, and for each of 4 gradients one call told the target, and one told the source if it is not known
        assert set(r["guidance/network_calls"][:]) == {5 + 3 + 4 * (2 if base == "none" else 1)}
    if guides == "cfg":
        cfdiff(*quick, "--guides", guides, "--w", 0, "--factual", "--force")
        with open_result(tmp_path / "run.h5") as r:
            assert (r.counterfactual[:] == r.source[:]).all() and (r["factual"][:] == r.source[:]).all()
