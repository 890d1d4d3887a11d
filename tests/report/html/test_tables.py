from __future__ import annotations

from cfdiff.report.html.tables import Cell, evaluation_tables, plain

ENTRY = {"value": 0.96875, "low": 0.842, "high": 1.0, "n": 32, "by": "groups"}


def test_a_figure_by_column_is_a_row_with_its_interval_and_direction() -> None:
    figure = {"label": "flip rate", "better": "higher", "unit": "share", "all": ENTRY, "flipped": {**ENTRY, "n": 31}}
    figures = {"sections": {"valid": {"question": "Valid?", "figures": {"flip": figure}, "judge": "j"}}, "images": 32}
    valid, run = evaluation_tables(figures)
    assert valid.name == "Valid? by j" and valid.columns == ["all", "flipped"] and not valid.minor
    cells = [Cell("96.9%", "84.2% to 100.0%, n = 32"), Cell("96.9%", "84.2% to 100.0%, n = 31")]
    assert valid.rows == [("flip rate \N{UPWARDS ARROW}", cells)]
    assert run.rows == [("images", [Cell("32")])] and run.minor


def test_any_other_object_is_unfolded_and_its_intervals_are_joined() -> None:
    figures = {"flipped": 0.5, "flipped_95": [0.25, 0.75], "deep": {"er": {"n_bags": 3}, "list": list(range(9))}}
    deep, run = evaluation_tables(figures)
    assert deep.rows == [("er: n bags", [Cell("3")]), ("list", [Cell("9 entries")])] and deep.columns == []
    assert run.rows == [("flipped", [Cell("0.5", "0.25 to 0.75")])] and not run.minor


def test_a_figure_that_is_not_known_is_a_dash_without_an_interval() -> None:
    figure = {"value": None, "low": None, "high": None, "n": 0}
    (table,) = evaluation_tables({"sections": {"s": {"question": "Where?", "figures": {"a": figure}}}})
    assert table.rows == [("a", [Cell("\N{EN DASH}")])]


def test_values_are_written_as_a_reader_expects() -> None:
    assert [plain(v) for v in (None, True, 1234567, -0.123456, (1, 2), "x")] == [
        "\N{EN DASH}",
        "yes",
        "1,234,567",
        "\N{MINUS SIGN}0.1235",
        "1, 2",
        "x",
    ]
