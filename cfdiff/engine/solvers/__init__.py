"""What the decode loop steps with: one file a solver; their names stand in cfdiff.registry."""

from cfdiff.engine.solvers.base import Ask, Solver
from cfdiff.engine.solvers.ddim import Ddim
from cfdiff.engine.solvers.ddpm import Ddpm
from cfdiff.engine.solvers.dpm import DpmSolver2M
from cfdiff.engine.solvers.heun import Heun
from cfdiff.engine.solvers.unipc import UniPC

__all__ = ["Ask", "Ddim", "Ddpm", "DpmSolver2M", "Heun", "Solver", "UniPC"]
