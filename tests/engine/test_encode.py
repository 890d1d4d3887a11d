from __future__ import annotations

import pytest
import torch

from cfdiff.engine import (
    Ddim,
    NoiseSource,
    Trajectory,
    decode,
    encode_ddim,
    encode_fixed_point,
    encode_noise,
    make_tau,
    q_sample,
)

IDS = ["a", "b", "c", "d"]


@pytest.fixture
def x0(mixture) -> torch.Tensor:
    return mixture.sample(4)


def encoders(toy, x0: torch.Tensor, tau: list[int], denoise=None) -> dict[str, Trajectory]:
    denoise = denoise or toy.eps
    return {
        "ddim": encode_ddim(toy.schedule, denoise, x0, tau),
        "fixed-point": encode_fixed_point(toy.schedule, denoise, x0, tau, iterations=3),
        "noise": encode_noise(toy.schedule, denoise, x0, tau, NoiseSource(0, IDS)),
    }


def round_trip_error(toy, encode, steps: int) -> float:
    x0 = toy.sample(32)
    trajectory = encode(toy.schedule, toy.eps, x0, make_tau(toy.schedule, 0.8, steps))
    back = decode(toy.schedule, toy.eps, trajectory, solver=Ddim(), anchored=False)
    return float((back - x0).abs().mean())


def test_the_path_begins_at_the_input_and_keeps_the_networks_eps_at_every_level(mixture, x0) -> None:
    tau = make_tau(mixture.schedule, 0.5, 7)
    for trajectory in encoders(mixture, x0, tau).values():
        assert trajectory.x[0] is x0
        assert trajectory.eps[0] is None
        assert len(trajectory.x) == len(trajectory.eps) == trajectory.steps + 1 == 8
        for i in range(1, 8):
            assert torch.equal(trajectory.eps_at(i), mixture.eps(trajectory.x[i], tau[i]))


def test_calls_counts_the_network_calls_and_none_is_at_level_0(mixture, x0) -> None:
    tau = make_tau(mixture.schedule, 0.5, 7)
    levels: list[int] = []

    def denoise(x, level):
        levels.append(level)
        return mixture.eps(x, level)

    expected = {"ddim": 8, "fixed-point": 1 + 7 * 4, "noise": 7}
    for name, trajectory in encoders(mixture, x0, tau, denoise).items():
        assert trajectory.calls == expected[name]
    assert len(levels) == sum(expected.values())
    assert min(levels) == 1


def test_the_error_of_a_ddim_round_trip_falls_with_the_number_of_steps(mixture) -> None:
    errors = [round_trip_error(mixture, encode_ddim, steps) for steps in (10, 20, 40, 80, 160)]
    assert all(b < a for a, b in zip(errors, errors[1:], strict=False))
    assert errors[-1] < errors[0] / 4


@pytest.mark.parametrize("steps", [10, 20, 40])
def test_the_fixed_point_round_trip_is_much_closer_than_ddims(mixture, steps: int) -> None:
    assert round_trip_error(mixture, encode_fixed_point, steps) < round_trip_error(mixture, encode_ddim, steps) / 4


def test_fixed_point_with_no_iteration_is_ddim(mixture, x0) -> None:
    tau = make_tau(mixture.schedule, 0.5, 7)
    plain = encode_ddim(mixture.schedule, mixture.eps, x0, tau)
    fixed = encode_fixed_point(mixture.schedule, mixture.eps, x0, tau, iterations=0)
    assert all(torch.equal(a, b) for a, b in zip(plain.x, fixed.x, strict=True))


def test_ddim_encoding_of_a_gaussian_approaches_the_exact_flow(gaussian) -> None:
    x0 = gaussian.sample(8)
    tau = make_tau(gaussian.schedule, 0.5, 100)
    x = encode_ddim(gaussian.schedule, gaussian.eps, x0, tau).x[-1]
    assert (x - gaussian.flow(x0, 0, 100)).abs().max() < 0.02


def test_noise_encoding_uses_one_eps_an_image_at_every_level(mixture, x0) -> None:
    tau = make_tau(mixture.schedule, 0.5, 7)
    trajectory = encode_noise(mixture.schedule, mixture.eps, x0, tau, NoiseSource(0, IDS))
    eps = NoiseSource(0, IDS).like(x0)
    for level, x in zip(tau, trajectory.x, strict=True):
        assert torch.equal(x, q_sample(mixture.schedule, x0, level, eps))


def test_encoding_never_clips(mixture) -> None:
    x0 = 3 * torch.ones(1, 1, 2, 2)
    tau = make_tau(mixture.schedule, 0.5, 100)
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, tau)
    back = decode(mixture.schedule, mixture.eps, trajectory, solver=Ddim(), anchored=False)
    assert (back - x0).abs().max() < 0.3


@pytest.mark.parametrize("rows", [[2, 0], torch.tensor([2, 0]), torch.tensor([True, False, True, False])])
def test_select_is_the_path_of_some_samples(mixture, x0, rows) -> None:
    tau = make_tau(mixture.schedule, 0.5, 3)
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, tau)
    some = trajectory.select(rows)
    assert some.tau == tau and some.calls == trajectory.calls and some.eps[0] is None
    for i in range(1, 4):
        assert torch.equal(some.x[i], trajectory.x[i][rows])
        assert torch.equal(some.eps_at(i), trajectory.eps_at(i)[rows])


def test_every_kth_level_of_a_path_is_one_that_decode_takes_and_anchors_to(mixture, x0) -> None:
    fine = make_tau(mixture.schedule, 0.5, 6)
    for trajectory in encoders(mixture, x0, fine).values():
        path = trajectory.every(3)
        assert path.tau == [0, fine[3], fine[6]] and path.steps == 2 and path.calls == trajectory.calls
        assert path.x[1] is trajectory.x[3] and path.eps_at(2) is trajectory.eps_at(6)
        asked: list[int] = []

        def denoise(x, level, asked=asked):
            asked.append(level)
            return mixture.eps(x, level)

        assert torch.equal(decode(mixture.schedule, denoise, path, solver=Ddim()), x0) and asked == []
        assert torch.equal(decode(mixture.schedule, denoise, path, solver=Ddim(), dense=True), x0)
        assert asked == [fine[3]]


def test_a_path_moves_between_devices(mixture, x0) -> None:
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, [0, 5, 9]).to("meta")
    assert {x.device.type for x in trajectory.x} == {"meta"}
    assert trajectory.eps_at(2).device.type == "meta"


def test_the_residual_vanishes_where_the_step_is_undone(mixture, x0) -> None:
    """The fixed point makes delta small; plain DDIM inversion leaves one."""
    tau = make_tau(mixture.schedule, 0.5, 7)
    paths = encoders(mixture, x0, tau)
    for i in range(1, 8):
        fixed, plain = (paths[name].delta(i).abs().mean() for name in ("fixed-point", "ddim"))
        assert fixed < plain / 2


def test_a_half_precision_network_leaves_the_path_in_float32(mixture, x0) -> None:
    def denoise(x, level):
        return mixture.eps(x, level).bfloat16()

    for trajectory in encoders(mixture, x0, [0, 50, 100], denoise).values():
        assert {t.dtype for t in [*trajectory.x, *trajectory.eps[1:]]} == {torch.float32}


def test_selecting_all_samples_copies_nothing(mixture) -> None:
    path = encode_ddim(mixture.schedule, mixture.eps, mixture.sample(3), make_tau(mixture.schedule, 0.4, 5))
    assert path.select([0, 1, 2]) is path
    assert path.select([0, 2, 1]) is not path and torch.equal(path.select([0, 2, 1]).x[-1], path.x[-1][[0, 2, 1]])
    assert len(path.select([1]).x[0]) == 1
