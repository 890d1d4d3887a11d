"""Pure functions of tensors: schedule, process, sampler, inversion, guidance. No files, no printing.

The formulas, and where each stands, are in docs/engine.md.
"""

from cfdiff.engine.classifier_free import ClassifierFree, ConditionalDenoise
from cfdiff.engine.decode import Early, Step, decode
from cfdiff.engine.encode import Trajectory, encode_ddim, encode_fixed_point, encode_noise, from_noise
from cfdiff.engine.guidance import (
    CleanLogProb,
    Guidance,
    GuidanceStep,
    Guide,
    NoisyGuide,
    NoisyLogProb,
    TweedieGuide,
    grad_log_prob,
)
from cfdiff.engine.interpolate import slerp
from cfdiff.engine.loss import BatchDenoise, l_simple
from cfdiff.engine.mixture import count_gradient, count_log_pmf, count_posterior, free_count, wanted_count
from cfdiff.engine.noise import NoiseSource, seed_of
from cfdiff.engine.process import (
    Denoise,
    Parametrisation,
    convert,
    eps_from_x0,
    posterior,
    q_sample,
    x0_from_eps,
)
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.solvers import Ask, Ddim, Ddpm, DpmSolver2M, Heun, Solver, UniPC
from cfdiff.engine.spacing import Spacing, make_tau, noise_level
from cfdiff.engine.steps import Variance, ddim_step, ddpm_step, dpm_solver_2m_step
from cfdiff.engine.vlb import Vlb, discretised_log_likelihood, prior_term, vlb, vlb_term

__all__ = [
    "Ask",
    "BatchDenoise",
    "ClassifierFree",
    "CleanLogProb",
    "ConditionalDenoise",
    "Ddim",
    "Ddpm",
    "Denoise",
    "DpmSolver2M",
    "Early",
    "Guidance",
    "GuidanceStep",
    "Guide",
    "Heun",
    "NoiseSchedule",
    "NoiseSource",
    "NoisyGuide",
    "NoisyLogProb",
    "Parametrisation",
    "Solver",
    "Spacing",
    "Step",
    "Trajectory",
    "TweedieGuide",
    "UniPC",
    "Variance",
    "Vlb",
    "convert",
    "count_gradient",
    "count_log_pmf",
    "count_posterior",
    "ddim_step",
    "ddpm_step",
    "decode",
    "discretised_log_likelihood",
    "dpm_solver_2m_step",
    "encode_ddim",
    "encode_fixed_point",
    "encode_noise",
    "eps_from_x0",
    "free_count",
    "from_noise",
    "grad_log_prob",
    "l_simple",
    "make_tau",
    "noise_level",
    "posterior",
    "prior_term",
    "q_sample",
    "seed_of",
    "slerp",
    "vlb",
    "vlb_term",
    "wanted_count",
    "x0_from_eps",
]
