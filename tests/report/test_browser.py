"""The page in a real browser, with nothing but the file: what a reader sees and does."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cfdiff.report.run import report
from cfdiff.report.settings import ReportSettings

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)></title>'
EVALUATION = {  # of make_run(8)
    "format": "cfdiff-evaluation",
    "format_version": 1,
    "result": "run.h5",
    "direction": "negative (healthy) -> positive (sick)",
    "images": 8,
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no browser: install one, such as `apt-get install chromium`"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Write the report of a run and open it; at the end, the page has complained of nothing and asked for nothing."""
    complaints: list[str] = []
    pages = []

    def go(run: Path, *, scheme: str = "light", **settings: Any) -> Any:
        out = report(ReportSettings(run=run, out=tmp_path / f"{len(pages)}.html", **settings)).page
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        own = ("data:", out.as_uri())
        page.on("request", lambda r: None if r.url.startswith(own) else complaints.append(r.url))
        page.goto(out.as_uri())
        pages.append(page)
        return page

    yield go
    for page in pages:
        page.close()
    assert complaints == []


def ids(page: Any) -> list[str]:
    return page.locator("#cards .card h3").all_text_contents()


def test_the_page_says_the_direction_and_shows_every_image(visit: Any, make_run: Any) -> None:
    page = visit(make_run(40))
    assert page.title() == "negative (healthy) → positive (sick) · cfdiff report"
    assert len(ids(page)) == 40
    assert page.locator(".plot svg").count() == 4
    page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")  # fails for a broken picture


def test_a_tab_and_a_search_reduce_the_cards_and_the_count_says_so(visit: Any, make_run: Any) -> None:
    page = visit(make_run(40))
    page.locator("[name=filter][value=failed]").check()
    assert ids(page) == [f"tile/{i:04d}.png" for i in (3, 13, 23, 33)]
    assert page.locator("#cards .badge").count() == 4
    page.locator("#query").fill("P2")  # group P(i % 7)
    assert ids(page) == ["tile/0023.png"]
    assert page.locator("#count").text_content() == "1 of 40 images"
    page.locator("[name=filter][value=all]").check()
    page.locator("#query").fill("TILE/001")
    assert len(ids(page)) == 10


def test_sorting_reorders_the_cards_and_best_and_worst_bring_their_order(visit: Any, make_run: Any) -> None:
    page = visit(make_run(40))
    shown = "[...document.querySelectorAll('#cards .meta')].map(m => parseFloat(m.textContent.split('change ')[1]))"
    page.locator("#order").select_option("change-down")
    changes = page.evaluate(shown)
    assert changes == sorted(changes, reverse=True) and len(set(changes)) > 30
    page.locator("#order").select_option("change-up")
    assert page.evaluate(shown) == sorted(changes)
    page.locator("[name=filter][value=worst]").check()
    assert page.locator("#order").input_value() == "gain-up"
    assert len(ids(page)) == 20 and set(ids(page)[:4]) == {f"tile/{i:04d}.png" for i in (3, 13, 23, 33)}


def test_the_slider_changes_the_opacity_of_every_overlay(visit: Any, make_run: Any) -> None:
    page = visit(make_run(8))
    opacity = "[...document.querySelectorAll('#cards .overlay')].map(o => getComputedStyle(o).opacity)"
    assert set(page.evaluate(opacity)) == {"0.8"}
    page.locator("#opacity").focus()
    page.keyboard.press("Home")
    assert set(page.evaluate(opacity)) == {"0"}
    page.keyboard.press("ArrowRight")
    assert set(page.evaluate(opacity)) == {"0.05"} and page.locator(".percent").first.text_content() == "5 %"
    assert page.locator("#zoom-opacity").input_value() == "5"


def test_the_enlarged_view_opens_steps_and_closes_by_keyboard(visit: Any, make_run: Any) -> None:
    page = visit(make_run(8))
    page.locator("#cards .pictures").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#zoom").is_visible() and page.locator("#zoom-id").text_content() == "tile/0001.png"
    assert page.locator("#zoom .frame").count() == 4
    width = page.locator("#zoom .pic").first.bounding_box()["width"]
    assert width > 1.8 * page.locator("#cards .pic").first.bounding_box()["width"]
    page.keyboard.press("ArrowRight")
    assert page.locator("#zoom-id").text_content() == "tile/0002.png"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#zoom-id").text_content() == "tile/0000.png" and page.locator("#previous").is_disabled()
    page.locator("#zoom-opacity").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#zoom-id").text_content() == "tile/0000.png"
    page.keyboard.press("Escape")
    assert not page.locator("#zoom").is_visible()
    assert page.evaluate("document.activeElement.className") == "pictures"


def test_everything_can_be_reached_by_tab_and_has_a_name(visit: Any, make_run: Any) -> None:
    page = visit(make_run(2))
    reached = []
    for _ in range(15):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name || ''"))
    assert {"filter", "query", "order", "opacity"} <= set(reached)
    unnamed = """[...document.querySelectorAll('button, input, select')].filter(e => !e.closest('template') &&
        !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).map(e => e.outerHTML)"""
    assert page.evaluate(unnamed) == []


def test_a_script_in_an_id_is_shown_as_text_everywhere(visit: Any, make_run: Any, make_bags: Any) -> None:
    page = visit(make_run(3, name=lambda i: f"{EVIL}{i}"))
    assert ids(page) == [f"{EVIL}{i}" for i in range(3)]
    page.locator("#cards .pictures").first.click()
    assert page.locator("#zoom-id").text_content() == f"{EVIL}0"
    assert page.locator("script").count() == 2
    page = visit(make_bags(1, name=lambda i: EVIL))
    assert page.locator(".sack h3").first.text_content() == EVIL
    assert page.locator(".ratios tbody th").first.text_content() == EVIL
    assert page.locator("script").count() == 2


def test_a_thousand_images_are_there_but_built_only_as_one_scrolls(visit: Any, make_run: Any) -> None:
    page = visit(make_run(1300, size=12))
    assert page.locator("#count").text_content() == "1,000 of 1,000 images"
    assert "1,000 of 1,300 images" in page.locator("#gallery").text_content()
    built = page.locator("#cards .card").count()
    assert built <= 120
    page.locator("#more").scroll_into_view_if_needed()
    page.locator("#cards .card").nth(built).wait_for()
    page.locator("[name=filter][value=failed]").check()
    assert page.locator("#count").text_content() == "130 of 1,000 images"


def test_masks_are_outlined_until_one_turns_them_off(visit: Any, make_run: Any, make_data: Any) -> None:
    page = visit(make_run(20), data=str(make_data(20)))
    assert page.locator("#examples .card").count() == 12
    outlines = page.locator("#cards .outline")
    assert outlines.count() == 2 * 19 and outlines.first.is_visible()  # the first image's mask is empty
    page.locator("#outlines").uncheck()
    assert not outlines.first.is_visible() and page.locator("#examples .outline").first.is_visible()


def test_bags_are_shown_before_and_after_with_the_edited_framed(visit: Any, make_bags: Any) -> None:
    page = visit(make_bags(3))
    assert page.locator(".sack").count() == 6 and page.locator(".instance.up").count() == 3 * (2 + 4)
    assert page.locator(".ratios tbody tr").count() == 6 and page.locator(".off").count() > 0
    first = page.locator(".instance.up").first
    assert first.locator(".changed").is_visible() and not first.locator(".overlay").is_visible()
    page.locator("[name=view][value=before]").check()
    assert not first.locator(".changed").is_visible()
    page.locator("[name=view][value=difference]").check()
    assert first.locator(".overlay").is_visible()
    page.locator("#mix").select_option(label="0.5")
    assert page.locator(".sack").count() == 3
    page.locator("#query").fill("P1")
    assert page.locator(".sack").count() == 1 and page.locator("#count").text_content() == "1 of 6 bags"
    page.locator(".instance:not(.up)").first.click()
    assert "byte for byte" in page.locator("#zoom-facts").text_content() and page.locator("#zoom .frame").count() == 1


def test_dark_and_light_are_both_readable_and_can_be_photographed(visit: Any, make_run: Any, tmp_path: Path) -> None:
    contrast = """(() => {
        const part = (c) => { const v = c / 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
        const of = (s) => {
            const [r, g, b] = s.match(/[\\d.]+/g).map(Number);
            return .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
        };
        const paper = of(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll('h1, .lead, .note, .card h3, .meta, .tick, nav a')].map((e) => {
            const style = getComputedStyle(e);
            const ink = of(e.matches('.tick') ? style.fill : style.color);
            return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
        });
    })()"""
    papers = set()
    run = make_run(14)
    for scheme in ("light", "dark"):
        page = visit(run, scheme=scheme)
        assert min(page.evaluate(contrast)) >= 4.5  # WCAG AA
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)) > 20_000
    assert len(papers) == 2


def test_print_unfolds_the_settings_and_leaves_the_controls_out(visit: Any, make_run: Any) -> None:
    page = visit(make_run(8), scheme="dark")
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible() and page.locator("#cards .card").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details[open]").count() == 1
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    assert page.pdf(format="A4")[:4] == b"%PDF"


def test_a_phone_need_not_scroll_sideways(visit: Any, make_run: Any, tmp_path: Path) -> None:
    entry = {"value": 0.0123456, "low": -0.00234567, "high": 0.0234567, "n": 1234}
    figure = {"label": "KID (features of a network with a long name)", "all": entry, "flipped": entry}
    run = make_run(8)
    sections = {"real": {"question": "Real?", "figures": {"k": figure}}}
    own = {"result_sha256": hashlib.sha256(run.read_bytes()).hexdigest(), "sections": sections}
    (tmp_path / "e.json").write_text(json.dumps({**EVALUATION, **own}))
    page = visit(run, evaluation=tmp_path / "e.json")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
