"""`import cfdiff`: the tasks as functions."""

from __future__ import annotations

import importlib
import inspect
import io
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cfdiff
from cfdiff import progress as progress_module
from cfdiff.api import TASKS
from cfdiff.progress import progress_bar, silent

QUICK: dict[str, Any] = {"device": "cpu", "steps": 3, "retries": 0, "batch_size": 8}


def seen(monkeypatch: pytest.MonkeyPatch, task: str) -> list[Any]:
    """What the function behind a task is called with, from now on."""
    calls: list[Any] = []
    module, _, attribute = TASKS[task].run.partition(":")
    monkeypatch.setattr(importlib.import_module(module), attribute, lambda s, progress: calls.append((s, progress)))
    return calls


def test_import_cfdiff_imports_none_of_the_heavy_packages() -> None:
    code = (
        "import sys, cfdiff; assert callable(cfdiff.translate) and cfdiff.show and dir(cfdiff)\n"
        "heavy = {'torch', 'timm', 'numpy', 'pydantic', 'h5py', 'rich', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_listed_and_can_be_had() -> None:
    public = {name for name in dir(cfdiff) if not name.startswith("_")}
    assert {*TASKS, "open_result", "open_bags", "open_source", "UserError"} <= public
    assert {f"{task.settings.rpartition(':')[2]}" for task in TASKS.values()} <= public
    assert all(getattr(cfdiff, name) is not None for name in public)
    with pytest.raises(AttributeError, match="no attribute 'transalte'"):
        cfdiff.transalte  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize("name", TASKS)
def test_the_documentation_and_the_signature_name_every_setting(name: str) -> None:
    task = getattr(cfdiff, name)
    fields = set(TASKS[name].model.model_fields) - {"json_"}
    signature = inspect.signature(task)
    assert fields | {"config", "progress"} == set(signature.parameters) - {"settings"}
    assert all(f"    {field}: " in task.__doc__ for field in fields)
    assert task.__doc__.splitlines()[0] == TASKS[name].summary and TASKS[name].summary in pydoc.render_doc(task)


def test_a_package_that_is_called_is_a_package_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import cfdiff.translate
    from cfdiff.translate import run

    assert cfdiff.translate.run is run and inspect.ismodule(cfdiff.translate)
    monkeypatch.setattr("cfdiff.translate.run.translate", lambda s, progress: s.limit)
    assert cfdiff.translate(limit=3) == 3


def test_options_are_checked_as_the_command_line_checks_them(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = seen(monkeypatch, "translate")
    for wrong, words in (
        ({"limt": 3}, "no setting 'limt': did you mean limit"),
        ({"form": "negative"}, "did you mean from_"),
        ({"limit": 0}, "limit = 0 is not possible"),
        ({"solver": "magic"}, "solver = 'magic'"),
    ):
        with pytest.raises(cfdiff.UserError, match=words):
            cfdiff.translate(**wrong)
    with pytest.raises(cfdiff.UserError, match="name every other setting"):
        cfdiff.translate("cells/")
    with pytest.raises(cfdiff.UserError, match="run is missing"):
        cfdiff.evaluate()
    with pytest.raises(cfdiff.UserError, match="two values for 'run'"):
        cfdiff.evaluate("a.h5", run="b.h5")
    assert not calls


def test_paths_arrays_and_from_by_either_name_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = seen(monkeypatch, "translate")
    cfdiff.translate(data=Path("cells"), limit=np.int64(3), out=Path("run.h5"), progress=False, **{"from": "positive"})
    cfdiff.translate(data="cells", limit=3, out="run.h5", progress=False, from_="positive")
    (first, _), (second, progress) = calls
    assert first == second and first.data == "cells" and first.from_ == "positive" and first.out == Path("run.h5")
    assert progress is silent
    bags = seen(monkeypatch, "bag")
    cfdiff.bag(mix=np.array([0.1, 0.5]), progress=False)
    cfdiff.bag(mix=0.3, progress=False)
    assert [s.mix for s, _ in bags] == ["0.1,0.5", "0.3"]


def test_a_settings_object_is_taken_and_what_is_given_beside_it_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = seen(monkeypatch, "translate")
    settings = cfdiff.TranslateSettings.model_validate({"to": "negative", "limit": 9, "weights": "magnetic-tile"})
    cfdiff.translate(settings, limit=3, progress=False)
    assert calls[0][0] == settings.model_copy(update={"limit": 3})
    assert "from_" not in calls[0][0].model_fields_set, "--to alone says both"
    with pytest.raises(cfdiff.UserError, match="not both"):
        cfdiff.translate(settings, config="run.toml")


def test_a_config_file_is_taken_and_what_is_given_beside_it_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = seen(monkeypatch, "translate")
    (tmp_path / "run.toml").write_text('from = "positive"\nlimit = 9\n')
    cfdiff.translate(config=tmp_path / "run.toml", limit=3, progress=False)
    assert (calls[0][0].from_, calls[0][0].limit) == ("positive", 3)
    cfdiff.translate(config=str(tmp_path / "run.toml"), from_="negative", progress=False)
    assert (calls[1][0].from_, calls[1][0].limit) == ("negative", 9)
    (tmp_path / "run.toml").write_text("form = 1\n")
    with pytest.raises(cfdiff.UserError, match=r"'form' in run.toml: did you mean from\b"):
        cfdiff.translate(config=tmp_path / "run.toml")
    (tmp_path / "run.toml").write_text("limit = 1\n")
    with pytest.raises(cfdiff.UserError, match=r"no setting 'limt': "):
        cfdiff.translate(config=tmp_path / "run.toml", limt=3)


def test_the_run_is_given_by_place_or_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = seen(monkeypatch, "evaluate")
    cfdiff.evaluate("run.h5", progress=False)
    cfdiff.evaluate(Path("run.h5"), progress=False)
    cfdiff.evaluate(run="run.h5", progress=False)
    assert len({s.run for s, _ in calls}) == 1


def test_translate_and_what_reads_its_result(toy: Any, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    out = tmp_path / "run.h5"
    cfdiff.translate(
        data=toy.data, weights=toy.weights, limit=3, out=out, **QUICK, progress=lambda *step: told.append(step)
    )
    assert told[-1] == ("translating", 3, 3)
    with cfdiff.open_result(out) as run:
        assert len(run) == 3
    assert cfdiff.report(out).page == tmp_path / "run.html" and cfdiff.report(out, force=True).shown == 3
    shown = cfdiff.show(out, limit=2)
    assert (shown.figure, shown.shown, shown.of) == (tmp_path / "run-panel.png", 2, 3)


def test_a_bar_takes_words_as_they_stand_and_a_notebook_gets_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", property(lambda self: True))
    with progress_bar("[/a]") as advance:
        advance("[/b]", 1, 2)
    capsys.readouterr()
    stream = io.StringIO()
    with progress_module._line("opening", stream) as advance:
        advance("[/translating]", 1, 4)
        advance("done", 4, 4)
    lines = stream.getvalue().split("\r")
    assert [line.strip() for line in lines] == [
        "",
        "opening ...",
        "[/translating] 1 of 4 (25%)",
        "done 4 of 4 (100%)",
        "",
        "",
    ]
    assert len(lines[3]) >= len(lines[2]), "what was longer is wiped"


def test_a_type_checker_sees_functions_and_what_they_return(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(
        "import cfdiff\n"
        "import cfdiff.tune\n"
        "from pathlib import Path\n"
        "found = cfdiff.doctor(data='cells/', limit=8)\n"
        "count: int = found.counts['fail']\n"
        "share: float = cfdiff.tune(config='a.toml').comparison[0].flipped\n"
        "page: Path = cfdiff.report('run.h5').page\n"
        "cfdiff.show('run.h5').nothing\n"
    )
    root = Path(cfdiff.__file__).parents[1]
    command = [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), str(script)]
    done = subprocess.run(
        [*command, "--cache-dir", str(root / ".mypy_cache")], capture_output=True, text=True, cwd=root
    )
    assert done.stdout.count("error:") == 1 and '"ShowResult" has no attribute "nothing"' in done.stdout, done.stdout


DOCS = Path(__file__).parents[1] / "docs" / "python.md"
SHORTER = {
    "limit=24": "limit=4",
    'cfdiff.doctor(data="cells.npz", weights="models"': 'cfdiff.doctor(data="cells.npz", weights="models", limit=8',
    "trials=20": "trials=1, images=2, tune=('ratio',)",
    "max_minutes=60": "steps=1, width=8, mult=(1, 2), attention=(), val_limit=2, batch_size=2",
    "max_minutes=30": "steps=1, arch='resnet10t', val_limit=2, batch_size=2",
}


@pytest.mark.slow
def test_every_block_of_the_page_on_python_runs(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, as one notebook, on the toys; what takes long is made shorter."""
    monkeypatch.chdir(tmp_path)
    arrays = dict(np.load(toy.data))
    names = np.array(["train", "val", "test", "test"])
    np.savez("cells.npz", **arrays, split=names[np.arange(len(arrays["images"])) // 6 % 4])
    Path("models").symlink_to(toy.weights)
    Path("run.toml").write_text('data = "cells.npz"\nweights = "models"\nout = "run.h5"\n')
    page = DOCS.read_text(encoding="utf-8")
    assert all(words in page for words in SHORTER), "what is made shorter is there"
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == page.count("```python") >= 10
    notebook: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        for long, short in SHORTER.items():
            block = block.replace(long, short)
        exec(compile(block, f"docs/python.md, block {number + 1}", "exec"), notebook)
    for made in (
        "run.h5",
        "run.png",
        "run.json",
        "run.html",
        "worst.pdf",
        "bags.h5",
        "tuned.toml",
        "sheet.png",
        "small.npz",
    ):
        assert Path(made).is_file()
