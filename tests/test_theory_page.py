"""docs/theory.md names the tests and the places in the code: all of them are there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
CODE = sorted(set(re.findall(r"`(cfdiff(?:\.\w+)+)`", PAGE)))
TESTS = set(re.findall(r"`(test_\w+)`", PAGE))


def defined(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("place", CODE)
def test_every_place_that_the_page_names_can_be_imported(place: str) -> None:
    parts = place.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return
    pytest.fail(f"{place} is nowhere")


def test_every_test_that_the_page_names_exists() -> None:
    known = set().union(*(defined(path) for path in (ROOT / "tests").rglob("test_*.py")))
    assert len(TESTS) >= 15 and TESTS - known == set()


def test_every_identity_that_is_tested_stands_on_the_page() -> None:
    assert {name for name in defined(ROOT / "tests" / "engine" / "test_theory.py") if name.startswith("test_")} <= TESTS


def test_every_section_names_a_place_and_a_test() -> None:
    sections = PAGE.split("\n## ")[1:-1]  # the last are the sources
    assert len(sections) >= 7
    for section in sections:
        assert re.search(r"`cfdiff\.", section) and re.search(r"`test_", section), section.splitlines()[0]
