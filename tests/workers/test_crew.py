from __future__ import annotations

import sys

import pytest
import raywork

from cfdiff.errors import UserError
from cfdiff.workers.crew import Elsewhere, crew


def test_this_process_does_the_pieces_in_order_and_makes_its_models_when_there_is_a_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def here() -> object:
        made.append("models")
        return str

    with crew(raywork.Shared(), here, Elsewhere(here, ())) as workers:
        assert list(workers.do([])) == [] and made == []
        assert list(workers.do([3, 1])) == [(3, "3"), (1, "1")]
        assert list(workers.do([2])) == [(2, "2")]
    assert made == ["models"]


@pytest.mark.parametrize("who", [{"workers": 2}, {"ray": "auto"}])
def test_without_ray_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, who: dict[str, object]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as an import that fails
    with pytest.raises(UserError, match=r"need Ray, which is not installed: pip install 'cfdiff\[ray\]'"):
        crew(raywork.Shared(**who), dict, Elsewhere(dict, ()))  # type: ignore[arg-type]
