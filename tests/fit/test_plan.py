from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.fit.plan import LEAST, SHARES, TRAININGS, Clock, shares_of, trainings

STAGES = list(SHARES)


def test_the_shares_are_all_of_the_time_and_trainings_come_first() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert tuple(STAGES[: len(TRAININGS)]) == TRAININGS


@given(st.floats(1, 1e5), st.lists(st.floats(0, 1.5), min_size=len(STAGES), max_size=len(STAGES)))
def test_what_a_stage_leaves_or_overdraws_is_shared_by_those_that_follow(limit: float, manners: list[float]) -> None:
    used: dict[str, float] = {}
    for stage, manner in zip(STAGES, manners, strict=True):
        allotted = Clock(limit, used).allotted(stage)
        left = max(0.0, limit - sum(used.values()))
        assert 0 < allotted <= max(left, LEAST * SHARES[stage] * limit) * (1 + 1e-9)
        used[stage] = manner * allotted
    if max(manners) <= 1:
        assert sum(used.values()) <= limit * (1 + 1e-9)


def test_stages_that_take_what_they_may_end_with_the_time() -> None:
    used: dict[str, float] = {}
    for stage in STAGES:
        used[stage] = Clock(600, used).allotted(stage)
        assert used[stage] == pytest.approx(600 * SHARES[stage])
    assert Clock(600, used).elapsed == pytest.approx(600)


def test_a_stage_that_was_begun_has_what_it_had() -> None:
    assert Clock(600, {"diffusion": 100}).allotted("diffusion") == pytest.approx(600 * SHARES["diffusion"])


def test_latents_have_their_autoencoder_before_all_else_and_the_others_share_the_rest() -> None:
    shares = shares_of("latent")
    assert shares_of("pixel") == SHARES and trainings("pixel") == TRAININGS
    assert list(shares) == ["autoencoder", *STAGES] and sum(shares.values()) == pytest.approx(1)
    assert trainings("latent") == ("autoencoder", *TRAININGS)
    assert shares["guide"] / shares["diffusion"] == pytest.approx(SHARES["guide"] / SHARES["diffusion"])
    assert Clock(600, {}, shares).allotted("autoencoder") == pytest.approx(600 * shares["autoencoder"])
