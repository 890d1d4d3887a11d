from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from pydantic import Field, PositiveInt
from typer.testing import CliRunner

from cfdiff.cli.options import command, panel_of
from cfdiff.errors import UserError
from cfdiff.settings import Settings


class Parent(Settings):
    rate: float = Field(0.5, description="How fast.", json_schema_extra={"panel": "Speed"})


class Toy(Parent):
    rate: float = Field(0.25, description="How fast.")
    count: PositiveInt = Field(3, description="How many.")
    sizes: tuple[PositiveInt, ...] = Field((1, 2), description="How large [in all].")
    kind: Literal["a", "b"] = Field("a", description="Which.")
    extra: dict[str, Any] = Field(default_factory=dict, description="More.")
    loud: bool = True
    place: Path | None = None
    files: tuple[Path, ...] = Field((), description="Which files.")


def parse(*arguments: str) -> Toy:
    seen: list[Toy] = []
    app = typer.Typer()
    app.command()(command(Toy, "A toy.", names={"loud": "--loud/--quiet"})(lambda s: seen.append(s)))
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return seen[0]


def test_without_options_the_defaults_hold() -> None:
    assert parse() == Toy()


def test_every_kind_of_option_is_read() -> None:
    given = parse("--rate", "2", "--sizes", "3, 4", "--kind", "b", "--extra", '{"x": [1]}', "--quiet", "--place", "p")
    assert given == Toy(rate=2, sizes=(3, 4), kind="b", extra={"x": [1]}, loud=False, place=Path("p"))


def test_files_are_given_by_repeating_the_option_and_may_hold_commas() -> None:
    assert parse("--files", "a,b", "--files", "c") == Toy(files=(Path("a,b"), Path("c")))
    assert parse().files == ()


def test_the_command_line_wins_over_the_config_file_and_that_over_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "toy.toml"
    config.write_text('count = 7\nkind = "b"\nextra = { y = 1 }\n')
    assert parse("--config", str(config), "--count", "9") == Toy(count=9, kind="b", extra={"y": 1})


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("coun = 7", [], "no setting 'coun' in toy.toml: did you mean count"),
        ("zzz = 7", [], "the known ones are count, extra"),
        ("count = 0", [], "count = 0 is not possible"),
        ("count =", [], "'toy.toml' is no valid TOML"),
        ("", ["--kind", "c"], "kind = 'c' is not possible"),
        ("", ["--sizes", "1,x"], "sizes = "),
        ("", ["--extra", "{"], "--extra wants a JSON object"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, arguments: list[str], said: str) -> None:
    config = tmp_path / "toy.toml"
    config.write_text(text)
    with pytest.raises(UserError) as caught:
        parse("--config", str(config), *arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_config_file_is_said() -> None:
    with pytest.raises(UserError, match=r"'none.toml' cannot be read: No such file"):
        parse("--config", "none.toml")


def test_an_override_keeps_the_panel_of_its_parent() -> None:
    assert panel_of(Toy, "rate") == "Speed" and panel_of(Toy, "count") is None


def test_help_shows_panels_defaults_and_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    app.command()(command(Toy, "A toy.")(lambda s: None))
    text = CliRunner().invoke(app, ["--help"]).output
    for word in ("Speed", "[default: 0.25]", "How large [in all]. [default: 1,2]", "One of a, b.", "[default: a]"):
        assert word in text


def test_a_field_can_be_given_by_place_and_is_asked_for() -> None:
    class Placed(Settings):
        run: Path
        other: Path | None = None

    seen: list[Placed] = []
    app = typer.Typer()
    app.command()(command(Placed, "A toy.", arguments=("run", "other"))(seen.append))
    assert CliRunner().invoke(app, ["a.h5"]).exit_code == 0 and seen[0] == Placed(run=Path("a.h5"))
    assert CliRunner().invoke(app, ["a.h5", "b.h5"]).exit_code == 0 and seen[1].other == Path("b.h5")
    missing = CliRunner().invoke(app, [])
    assert missing.exit_code == 2 and "RUN" in missing.output
