from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.engine import (
    Ddim,
    Ddpm,
    DpmSolver2M,
    Early,
    Guidance,
    Heun,
    NoiseSource,
    NoisyGuide,
    Step,
    TweedieGuide,
    UniPC,
    ddim_step,
    decode,
    encode_ddim,
    encode_fixed_point,
    encode_noise,
    make_tau,
    x0_from_eps,
)

SOLVERS = {
    "ddim": Ddim(),
    "ddim-eta": Ddim(0.6),
    "ddpm-beta": Ddpm("beta"),
    "ddpm-beta-tilde": Ddpm("beta_tilde"),
    "2m": DpmSolver2M(),
    "heun": Heun(),
    "unipc": UniPC(),
}
ENCODERS = {
    "ddim": encode_ddim,
    "fixed-point": encode_fixed_point,
    "noise": lambda *args: encode_noise(*args, NoiseSource(5, ids(len(args[2])))),
}


def ids(n: int) -> list[str]:
    return [f"image-{i}" for i in range(n)]


def guidance_to(toy, target: torch.Tensor, **options) -> Guidance:
    defaults = {"scale": 3.0, "ratio": 0.5}
    return Guidance(toy.schedule, [NoisyGuide(toy.log_prob)], target=target, **{**defaults, **options})


def translate(toy, x0, tau, *, solver=SOLVERS["ddim"], encoder=encode_ddim, seed=0, names=None, **options):
    """Encode and decode; the options are decode's."""
    trajectory = encoder(toy.schedule, toy.eps, x0, tau)
    noise = NoiseSource(seed, names or ids(len(x0)))
    return decode(toy.schedule, toy.eps, trajectory, solver=solver, noise=noise, **options)


@given(
    st.data(),
    st.floats(0.005, 1),
    st.sampled_from(["uniform", "quadratic", "logsnr"]),
    st.sampled_from(sorted(SOLVERS)),
    st.sampled_from(sorted(ENCODERS)),
    st.booleans(),
)
def test_anchored_decode_without_guidance_returns_the_input(
    mixture, data, depth: float, spacing: str, solver: str, encoder: str, clip: bool
) -> None:
    """For every S, depth, spacing, solver and inversion: bit for bit."""
    steps = data.draw(st.integers(1, min(40, mixture.schedule.level_of(depth))))
    x0 = mixture.sample(3)
    tau = make_tau(mixture.schedule, depth, steps, spacing)
    options = {"solver": SOLVERS[solver], "encoder": ENCODERS[encoder], "clip": clip}
    assert torch.equal(translate(mixture, x0, tau, **options), x0)


@pytest.mark.parametrize("steps", range(1, 201, 7))
def test_anchored_decode_with_scale_0_returns_the_input_for_every_number_of_steps(mixture, steps) -> None:
    x0 = mixture.sample(2)
    guidance = guidance_to(mixture, torch.tensor([1, 0]), scale=0.0)
    assert torch.equal(translate(mixture, x0, make_tau(mixture.schedule, 1, steps), guidance=guidance), x0)


def test_a_tiny_change_of_the_network_stays_tiny_so_the_anchor_is_no_accident(mixture) -> None:
    """The identity is not a copy: the loop carries any deviation down, of a sample that guidance took off the path."""
    x0 = mixture.sample(3)
    tau = make_tau(mixture.schedule, 0.6, 20)
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, tau)
    calls = []

    def nudged(x, level):
        calls.append(level)
        return mixture.eps(x, level) + 1e-4

    guidance = guidance_to(mixture, torch.tensor([1, 0, 1]), scale=1e-6)
    moved = (decode(mixture.schedule, nudged, trajectory, solver=Ddim(), guidance=guidance) - x0).abs()
    assert 1e-6 < float(moved.max()) < 1e-2
    assert calls == tau[-2:0:-1], "eps^e_S is reused, so the first call is at tau_(S-1)"


@pytest.mark.parametrize("dense", [False, True])
def test_the_network_is_asked_only_of_samples_that_left_their_path(mixture, dense: bool) -> None:
    """eps is known on the encoded path; where all must be asked at once, the answer there is not used."""
    x0, tau = mixture.sample(4), make_tau(mixture.schedule, 0.6, 6)
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, tau)
    asked, counted = [], []

    def other(x, level):
        asked.append(len(x))
        return mixture.eps(x, level) + 0.1

    guidance = guidance_to(mixture, torch.tensor([1, 0, 1, 0]), scale=torch.tensor([0.0, 3.0, 0.0, 3.0]))
    keep = lambda step: counted.append(step.calls)  # noqa: E731
    options = {"guidance": guidance, "dense": dense, "callback": keep, "solver": Ddim()}
    y = decode(mixture.schedule, other, trajectory, **options)
    assert torch.equal(y[[0, 2]], x0[[0, 2]]) and (y[[1, 3]] != x0[[1, 3]]).flatten(1).any(1).all()
    assert asked == 5 * [4 if dense else 2]
    assert torch.stack(counted).sum(0).tolist() == ([5, 5, 5, 5] if dense else [0, 5, 0, 5])


@pytest.mark.parametrize("solver", ["ddim", "2m", "unipc"])
def test_a_sample_ends_early_with_what_would_come_of_no_more_guidance(mixture, solver: str) -> None:
    x0, tau = mixture.sample(4), make_tau(mixture.schedule, 0.6, 6)
    target = torch.tensor([1, 0, 1, 0])
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, tau)
    at, offered, counted = [], [], []

    def enough(rows, z):
        at.append(rows.tolist())
        offered.append(z)
        return rows != 3  # that one never will do

    def path(early, **options):
        sure = lambda x: x.new_tensor([[0.5, 0.5]]).expand(len(x), 2).log()  # noqa: E731
        guidance = guidance_to(mixture, target, checker=sure, confidence=0.9)
        options |= {"guidance": guidance, "solver": SOLVERS[solver], "early": early}
        return decode(mixture.schedule, mixture.eps, trajectory, **options)

    steps = []
    y = path(Early(0.4, enough), callback=lambda s: (steps.append(s), counted.append(s.calls)))
    assert at == [[0, 1, 2, 3], *4 * [[3]]]  # asked at the top, where all are on their path, and not at the last step
    assert torch.equal(y[:3], x0[:3]) and torch.equal(offered[0], x0)
    assert torch.stack(counted).sum(0).tolist() == [0, 0, 0, 5]
    whole = path(None)
    torch.testing.assert_close(y[3], whole[3], atol=1e-5, rtol=1e-5)
    # What is offered later is x_0 + (x0_hat - x0_hat^e): the source, moved as the estimate moved.
    i = 5
    e = x0_from_eps(mixture.schedule, trajectory.x[i], tau[i], trajectory.eps_at(i))
    torch.testing.assert_close(offered[1][0], (x0 + steps[1].x0_hat - e)[3])
    assert torch.equal(path(Early(0.6, enough)), whole), "the checker gives .5, so nobody is asked"
    assert len(at) == 5
    at.clear()
    path(Early(0.4, enough, tau[2]))
    assert at == [[0, 1, 2, 3]], "above its highest level nobody is asked"


def test_what_ends_early_keeps_to_its_mask(mixture) -> None:
    x0, tau = mixture.sample(2), make_tau(mixture.schedule, 0.6, 6)
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, tau)
    sure = lambda x: x.new_tensor([[0.5, 0.5]]).expand(len(x), 2).log()  # noqa: E731
    guidance = guidance_to(mixture, torch.tensor([1, 0]), checker=sure, confidence=0.9)
    mask = torch.zeros(2, 1, *x0.shape[2:])
    mask[..., :1] = 1
    done = Early(0.4, lambda rows, z: (z != x0[rows]).flatten(1).any(1))  # once it has changed at all
    y = decode(
        mixture.schedule, mixture.eps, trajectory, solver=Ddim(), guidance=guidance, mask=mask, early=done, dense=True
    )
    assert torch.equal(y[..., 1:], x0[..., 1:]) and (y[..., :1] != x0[..., :1]).any()


@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("anchored", [False, True])
def test_guidance_changes_the_output_towards_the_target(mixture, solver, clip, anchored) -> None:
    x0 = mixture.sample(8)
    target = (mixture.clean_log_prob(x0).argmax(1) == 0).long()
    tau = make_tau(mixture.schedule, 0.6, 40)
    options = {"solver": SOLVERS[solver], "clip": clip, "anchored": anchored}
    guided = translate(mixture, x0, tau, guidance=guidance_to(mixture, target), **options)
    unguided = translate(mixture, x0, tau, **options)

    change = guided - unguided
    towards_positive = (change * mixture.positive.mean).sum((1, 2, 3))
    assert change.abs().amax((1, 2, 3)).min() > 1e-2
    assert torch.equal(towards_positive > 0, target == 1)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.parametrize("anchored", [False, True])
def test_outside_the_mask_the_output_is_the_input_bit_for_bit(mixture, solver: str, anchored: bool) -> None:
    x0 = mixture.sample(4)
    mask = torch.tensor([[[1.0, 0.0], [0.5, 0.0]]]).expand(4, 1, 2, 2)
    guidance = guidance_to(mixture, torch.tensor([1, 1, 0, 0]))
    tau = make_tau(mixture.schedule, 0.6, 20)
    options = {"solver": SOLVERS[solver], "anchored": anchored, "mask": mask}
    y = translate(mixture, x0, tau, guidance=guidance, **options)
    assert torch.equal(y[mask == 0], x0[mask == 0])
    assert (y[mask > 0] != x0[mask > 0]).all()


def test_an_empty_mask_keeps_even_a_plain_guided_decode_at_the_input(mixture) -> None:
    x0 = mixture.sample(4)
    options = {"guidance": guidance_to(mixture, torch.tensor([1, 1, 0, 0])), "mask": torch.zeros(4, 1, 2, 2)}
    tau = make_tau(mixture.schedule, 0.6, 20)
    assert torch.equal(translate(mixture, x0, tau, anchored=False, **options), x0)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_an_image_alone_in_a_batch_of_7_and_in_a_batch_of_32_agrees(mixture, solver: str) -> None:
    x0 = mixture.sample(32)
    target = (torch.arange(32) < 16).long()
    tau = make_tau(mixture.schedule, 0.6, 8)

    def run(rows: slice) -> torch.Tensor:
        guidance = guidance_to(mixture, target[rows], checker=mixture.clean_log_prob, confidence=0.9)
        options = {"guidance": guidance, "solver": SOLVERS[solver], "encoder": ENCODERS["ddim"], "clip": True}
        return translate(mixture, x0[rows], tau, names=ids(32)[rows], **options)

    together = run(slice(0, 32))
    sevens = torch.cat([run(slice(i, min(i + 7, 32))) for i in range(0, 32, 7)])
    alone = torch.cat([run(slice(i, i + 1)) for i in range(32)])
    torch.testing.assert_close(sevens, together, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)


def test_network_and_guide_get_the_same_level_and_the_callback_sees_the_same_path(mixture) -> None:
    x0 = mixture.sample(2)
    tau = make_tau(mixture.schedule, 0.6, 9, "quadratic")
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, tau)
    network, guide, steps = [], [], []

    def denoise(x, level):
        network.append(level)
        return mixture.eps(x, level)

    def log_prob(x, level):
        guide.append(level)
        return mixture.log_prob(x, level)

    guidance = Guidance(mixture.schedule, [NoisyGuide(log_prob)], 1.0, 0.5, torch.tensor([1, 0]))
    y = decode(mixture.schedule, denoise, trajectory, solver=Ddim(), guidance=guidance, callback=steps.append)
    assert guide == [tau[-1], *network] == tau[:0:-1]
    assert [(s.index, s.level_from, s.level_to) for s in steps] == [
        (9 - i, tau[i], tau[i - 1]) for i in range(9, 0, -1)
    ]
    assert torch.equal(steps[-1].x, y)
    assert all(isinstance(s, Step) and s.ratio.shape == s.active.shape == (2,) for s in steps)
    assert torch.equal(steps[0].eps, trajectory.eps_at(9))
    assert all(s.active.all() and (s.ratio > 0).all() for s in steps)


def test_clipping_bounds_x0_hat_and_derives_eps_again(mixture) -> None:
    x0 = 3 * mixture.sample(4)
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, make_tau(mixture.schedule, 0.6, 10))
    starts, steps = [trajectory.x[-1]], []

    def keep(step: Step) -> None:
        steps.append(step)
        starts.append(step.x)

    y = decode(mixture.schedule, mixture.eps, trajectory, solver=Ddim(), anchored=False, clip=True, callback=keep)
    assert y.abs().max() <= 1 + 1e-6
    for x, step in zip(starts, steps, strict=False):
        guided_x0 = x0_from_eps(mixture.schedule, x, step.level_from, step.eps_guided)
        assert guided_x0.abs().max() < 1 + 1e-5


def test_plain_and_anchored_decode_agree_where_the_path_was_the_networks_own(gaussian) -> None:
    """A path that plain decode walks has no residual, so guiding from it gives the same either way."""
    tau = make_tau(gaussian.schedule, 0.5, 20)
    x0 = gaussian.sample(3)
    trajectory = encode_fixed_point(gaussian.schedule, gaussian.eps, x0, tau, iterations=60)
    options = {"solver": Ddim(), "guidance": None}
    plain, anchored = (
        decode(gaussian.schedule, gaussian.eps, trajectory, anchored=a, **options) for a in (False, True)
    )
    torch.testing.assert_close(plain, anchored, atol=1e-4, rtol=0)


def test_a_decode_leaves_the_trajectory_as_it_was(mixture) -> None:
    x0 = mixture.sample(2)
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, [0, 40, 80])
    before = [x.clone() for x in trajectory.x]
    guidance = guidance_to(mixture, torch.tensor([1, 0]))
    for solver in SOLVERS.values():
        options = {"solver": solver, "noise": NoiseSource(0, ids(2))}
        decode(mixture.schedule, mixture.eps, trajectory, guidance=guidance, clip=True, **options)
    assert all(torch.equal(a, b) for a, b in zip(before, trajectory.x, strict=True))


class Remembers:
    """A solver with a list for a memory, as one writes them: DDIM with the mean of all eps so far."""

    stochastic = False

    def __init__(self) -> None:
        self.eps: list[torch.Tensor] = []

    def reset(self) -> None:
        self.eps.clear()

    def step(self, schedule, x, eps, a, b, noise=None, ask=None):
        self.eps.append(eps)
        return ddim_step(schedule, x, sum(self.eps) / len(self.eps), a, b)


def test_each_walk_has_a_memory_of_its_own(mixture) -> None:
    """The unguided walk must not see what the guided one remembers: neither a list nor its length."""
    x0, solver = mixture.sample(3), Remembers()
    tau = make_tau(mixture.schedule, 0.6, 10)
    assert torch.equal(translate(mixture, x0, tau, solver=solver), x0)
    assert len(solver.eps) == 10
    moved = translate(mixture, x0, tau, solver=solver, guidance=guidance_to(mixture, torch.tensor([1, 0, 1])))
    assert not torch.equal(moved, x0) and len(solver.eps) == 10


def test_a_solver_that_asks_twice_is_guided_both_times(mixture) -> None:
    """Heun's second look goes through guidance too; it asks the network once a step and walk more, but for the last."""
    x0, levels, guided = mixture.sample(2), [], []
    tau = make_tau(mixture.schedule, 0.6, 5)
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, tau)

    def denoise(x, level):
        levels.append(level)
        return mixture.eps(x, level)

    def log_prob(x, level):
        guided.append(level)
        return mixture.log_prob(x, level)

    guidance = Guidance(mixture.schedule, [NoisyGuide(log_prob)], 3.0, 0.5, torch.tensor([1, 0]))
    decode(mixture.schedule, denoise, trajectory, solver=Heun(), guidance=guidance)
    below = tau[-2:0:-1]
    assert sorted(levels) == sorted(below * 3), "at each level between: the step's own call, and a look on either walk"
    assert sorted(guided) == sorted([tau[-1], *below, *below])


@pytest.mark.parametrize("solver", ["ddim", "2m", "unipc"])
def test_no_step_waits_for_a_device_that_is_no_cpu(mixture, solver: str, monkeypatch) -> None:
    """On the device "meta" there are no values: whatever would wait for one raises."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    asked = []

    def denoise(x, level):
        asked.append(level)
        return 0.5 * x

    log_prob = lambda x, level=0: torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1).log_softmax(1)  # noqa: E731
    guidance = Guidance(
        mixture.schedule,
        [NoisyGuide(log_prob), TweedieGuide(mixture.schedule, log_prob)],
        scale=3.0,
        ratio=0.5,
        target=torch.tensor([1, 0, 1], device="meta"),
        checker=log_prob,
    )
    x0 = torch.empty(3, 1, 2, 2, device="meta")
    path = encode_ddim(mixture.schedule, denoise, x0, make_tau(mixture.schedule, 0.6, 4))
    steps: list[Step] = []
    options = {"solver": SOLVERS[solver], "guidance": guidance, "mask": torch.empty(3, 1, 2, 2, device="meta")}
    y = decode(mixture.schedule, denoise, path, callback=steps.append, **options)
    assert y.is_meta and y.shape == x0.shape and len(asked) == 5 + 3
    assert all(step.calls.is_meta and step.active.is_meta for step in steps)
    with pytest.raises((NotImplementedError, RuntimeError)):
        float(y.sum())  # what a wait is
