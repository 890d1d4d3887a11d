from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from cfdiff.errors import UserError
from cfdiff.evaluate.run import evaluate
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.models.checkpoint import read_card
from cfdiff.report.models import Facts, card_facts, model_facts
from cfdiff.report.run import report
from cfdiff.report.settings import ReportSettings
from cfdiff.store import open_result
from cfdiff.translate.run import translate


@pytest.fixture(scope="module")
def run(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translation of the toys: four images that have a spot, to healthy."""
    out = tmp_path_factory.mktemp("run") / "run.h5"
    translate(toy.settings(out, from_="sick", limit=4, retries=0))
    return out


def page_of(run: Path, **settings: Any) -> str:
    return report(ReportSettings(run=run, force=True, **settings)).page.read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    return json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def test_the_page_lies_beside_the_run_and_the_same_run_gives_the_same_bytes(run: Path) -> None:
    assert page_of(run) == page_of(run)
    assert run.with_suffix(".html").is_file()


def test_the_page_names_no_folder_and_no_host(run: Path, toy: Any) -> None:
    page = page_of(run, data=str(toy.data), weights=str(toy.weights))
    assert str(run.parent) not in page and str(toy.weights.parent) not in page
    assert "http:" not in page and "https:" not in page


def test_beside_each_flip_rate_stands_the_recall_of_the_same_model_where_the_file_knows_it(
    run: Path, tmp_path: Path
) -> None:
    with open_result(run) as result:
        recall = result.recall
    page = page_of(run)
    assert all(f"before the edit; its recall {recall[who]}" in page for who in ("judge", "checker"))
    older = tmp_path / "older.h5"
    older.write_bytes(run.read_bytes())
    with h5py.File(older, "r+") as file:
        del file.attrs["recall"]
    assert "recall" not in page_of(older)


def test_the_figures_of_evaluate_join_the_page(run: Path, toy: Any, tmp_path: Path) -> None:
    out = tmp_path / "e.json"
    places = {"data": str(toy.data), "weights": str(toy.weights), "device": "cpu"}
    evaluate(EvaluateSettings(run=run, out=out, faithfulness=False, bootstrap=50, repeats=2, **places))
    page = page_of(run, evaluation=out)
    for words in ("its recall: real images of that class", "Is the change noise?", "half the Nyquist frequency"):
        assert words in page


def test_the_cards_hold_what_the_file_holds(run: Path) -> None:
    cards = data_of(page_of(run))["cards"]
    with open_result(run) as result:
        for i, card in enumerate(cards):
            target = int(result["target"][i])
            assert card["id"] == result["id"][i] and card["group"] == result["group"][i]
            assert card["p"]["judge"] == pytest.approx(result.prob("judge")[i, :, target], abs=1e-4)
            assert card["ok"] == result["flipped"][i]
            assert card["gain"] == pytest.approx(card["p"]["judge"][1] - card["p"]["judge"][0], abs=2e-4)


def test_the_masks_of_the_data_become_outlines_and_the_share_of_the_change_in_them(run: Path, toy: Any) -> None:
    page = page_of(run, data=str(toy.data))
    cards = data_of(page)["cards"]
    assert all(card["m"] and 0 < card["area"] < card["inside"] <= 1 for card in cards)
    assert data_of(page)["examples"] == sorted(range(4), key=lambda n: cards[n]["area"])
    assert "m" not in data_of(page_of(run))["cards"][0]


def test_the_cards_of_the_models_are_shown_only_where_their_hash_is_that_of_the_run(run: Path, toy: Any) -> None:
    with open_result(run) as result:
        hashes = result.attrs["models"]
    own = model_facts(hashes, str(toy.weights), {})
    assert [model.role for model in own] == ["diffusion", "guide", "checker", "judge"]
    assert ("architecture", "resnet10t") in own[3].facts and own[3].sha256 == hashes["judge"]
    others = model_facts({"judge": "0" * 64}, str(toy.weights), {})
    assert others == [Facts("judge", "0" * 64, [("card", "not at hand")])]


def test_the_card_of_a_model_says_whether_it_may_be_told_the_class(toy: Any, toy_told: Any) -> None:
    for toys, told in ((toy, []), (toy_told, [("condition", "class")])):
        facts = card_facts(read_card(toys.weights / "diffusion.safetensors"))
        assert [fact for fact in facts if fact[0] == "condition"] == told


def evaluation_of(run: Path, **changes: Any) -> str:
    """The JSON of an evaluation of this run, of one figure."""
    with open_result(run) as result:
        own = {"result": run.name, "direction": result.attrs["direction"], "images": len(result)}
    own["result_sha256"] = hashlib.sha256(run.read_bytes()).hexdigest()
    form = {"format": "cfdiff-evaluation", "format_version": 1}
    figure = {"value": 0.125, "low": None, "high": None, "n": 4}
    sections = {"valid": {"question": "Valid?", "figures": {"<b>": figure}}}
    return json.dumps({**form, **own, "sections": sections, **changes})


def test_the_figures_of_an_evaluation_join_the_page_escaped(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(evaluation_of(run))
    page = page_of(run, evaluation=path)
    assert "Valid?" in page and "0.125" in page and "&lt;b&gt;" in page and "<b>" not in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sections": [1]}, "is no evaluation"),
        ({"sections": {"valid": {"question": "Valid?", "figures": [1]}}}, "is no evaluation"),
        ({"format": "cfdiff-tune"}, "is no evaluation"),
        ({"format_version": 2}, "is no evaluation"),
        (
            {"result_sha256": "0" * 64, "result": "other.h5", "images": 5},
            r"another run, other\.h5 \(.*, 5 images\), or of run",
        ),
        ({"result_sha256": None}, "is no evaluation"),
    ],
)
def test_an_evaluation_that_is_none_or_of_another_run_is_refused_in_one_sentence(
    run: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(evaluation_of(run, **changes))
    with pytest.raises(UserError, match=words) as caught:
        report(ReportSettings(run=run, out=tmp_path / "report.html", evaluation=path))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_a_limit_is_kept_and_said(run: Path) -> None:
    page = page_of(run, limit=3)
    data = data_of(page)
    assert len(data["cards"]) == 3 and data["extremes"] == 1
    with open_result(run) as result:
        failed = ~result["flipped"][:]
    here = sum(not card["ok"] for card in data["cards"])
    words = f"3 of 4 images are here: the best, the worst, {here} of {failed.sum()} failures, and a draw from all."
    assert words in page


def test_large_pictures_are_reduced_and_the_page_says_so(run: Path) -> None:
    assert "are reduced 4 times" in page_of(run, side=4) and "are reduced" not in page_of(run, side=16)


def test_a_mistake_is_one_sentence_and_writes_nothing(run: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[1]")
    text = tmp_path / "text.json"
    text.write_text("flipped")
    out = tmp_path / "report.html"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"run": tmp_path / "none.h5"}, "does not exist"),
        ({"evaluation": bad}, "is no evaluation"),
        ({"evaluation": text}, "is no evaluation"),
        ({"evaluation": tmp_path / "none.json"}, "cannot be read"),
        ({"weights": "nowhere"}, "no folder 'nowhere', nor does"),
        ({"masks": "nowhere"}, "nowhere"),
        ({"out": tmp_path / "report.pdf"}, "should end in .html"),
    ]
    for settings, words in wrong:
        with pytest.raises(UserError, match=words):
            report(ReportSettings(**{"run": run, "out": out, **settings}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.json", "text.json"]


def test_an_existing_page_is_replaced_only_by_force(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        report(ReportSettings(run=run, out=out))
    assert out.read_text() == "mine"
    report(ReportSettings(run=run, out=out, force=True))
    assert "cfdiff report" in out.read_text()


def test_a_report_says_how_much_of_the_run_it_shows(make_bags: Callable[..., Path], run: Path) -> None:
    made = report(ReportSettings(run=run, limit=3, force=True))
    assert (made.page, made.shown, made.of) == (run.with_suffix(".html"), 3, 4)
    bags = report(ReportSettings(run=make_bags(bags=3), limit=16))
    assert 0 < bags.shown < bags.of
    page = bags.page.read_text(encoding="utf-8")
    assert (
        "achieved, judge" in page and page.count('<tr><th scope="row">') >= bags.of and "labels + checker" not in page
    )


def test_of_colour_images_the_page_shows_lightness_and_where_the_colour_went(toy_rgb: Any, tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    translate(toy_rgb.settings(out, limit=3))
    page = page_of(out)
    cards = data_of(page)["cards"]
    assert len(cards) == 3 and all({"s", "c", "d", "a", "h"} <= set(card) for card in cards)
    assert "the change of lightness" in page and "mean over the channels, so a change of hue" not in page
