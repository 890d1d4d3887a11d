"""One training loop for every network: EMA, warm-up and cosine, clipping, accumulation, exact resume, live progress.

The loop knows nothing of losses: it gets `loss(net, step, part)` and `evaluate(net, step)`. Batches and their random
numbers are functions of (seed, step), and torch is seeded before each pass (for dropout), so a resumed run repeats an
undisturbed one to the bit on the same machine (unless --max-minutes sets the rate by the clock).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from torch import Tensor, nn

from cfdiff.engine.noise import seed_of
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, save_model
from cfdiff.train.batches import Batches
from cfdiff.train.data import TrainingData
from cfdiff.train.folder import RunFolder
from cfdiff.train.settings import TrainSettings

Loss = Callable[[nn.Module, int, int], Tensor]
"""(net, step, part) -> the mean loss of this process's share of pass `part`."""
Evaluate = Callable[[nn.Module, int], dict[str, Any]]
"""(averaged net, step) -> figures for the log and the card."""

BETAS = (0.9, 0.99)
LINE_SECONDS = 30
"""Between lines of progress where no terminal shows a bar."""
STATE_SECONDS = 300
"""Between states written without a validation: what a kill costs at most."""


class Trainer:
    """Runs one training in its folder; `run()` starts it or continues it."""

    def __init__(self, s: TrainSettings, data: TrainingData, net: nn.Module, role: str) -> None:
        """`role` names the folder where the settings name none: runs/ROLE-DATA.

        Raises:
            UserError: the device or precision is not there, the batch cannot be cut, the folder cannot be written.
        """
        self.s, self.data = s, data
        self.accelerator = make_accelerator(s)
        cuts = s.accumulate * self.accelerator.num_processes
        if s.batch_size % cuts:
            raise UserError(
                f"--batch-size {s.batch_size} must be a multiple of --accumulate times the number of processes "
                f"({s.accumulate} x {self.accelerator.num_processes})."
            )
        out = s.out or Path("runs") / f"{role}-{data.train.name}"
        self.folder = RunFolder(out, s, data.train.name, data.train.fingerprint)
        self.folder.check()
        self.console = Console(quiet=not self.accelerator.is_main_process, stderr=True)
        self.ema = copy.deepcopy(net).eval().requires_grad_(False).to(self.accelerator.device)
        optimizer = torch.optim.AdamW(net.parameters(), s.lr, betas=BETAS, weight_decay=s.weight_decay)
        self.net, self.optimizer = self.accelerator.prepare(net, optimizer)
        self.step, self.elapsed, self.running = 0, 0.0, math.nan

    @property
    def device(self) -> torch.device:
        """Where the network is, and where `loss` must put its tensors."""
        return self.accelerator.device

    def batches(self, balance: bool = False) -> Batches:
        """The training batches of this process, on the device."""
        return Batches(
            self.data.train,
            self.s.batch_size,
            self.s.seed,
            balance=balance,
            accumulate=self.s.accumulate,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            device=self.device,
        )

    def run(self, loss: Loss, evaluate: Evaluate, card: Card) -> dict[str, Any]:
        """Train to the last step or minute and return the last validation.

        `card` says what the network is; what the training did is added to it at each validation.
        """
        with self.folder.owned(self.accelerator.is_main_process):
            return self._run(loss, evaluate, card)

    def _run(self, loss: Loss, evaluate: Evaluate, card: Card) -> dict[str, Any]:
        self._open()
        figures: dict[str, Any] = {}
        started, line, saved = time.monotonic() - self.elapsed, time.monotonic(), time.monotonic()
        with self._progress() as progress:
            task = progress.add_task("", total=1.0, text="")
            while self._share() < 1:
                value = self._one_step(loss)
                self.running = value if math.isnan(self.running) else 0.98 * self.running + 0.02 * value
                self._tick(started)
                text = self._text(figures)
                progress.update(task, completed=self._share(), text=text)
                if not self.console.is_terminal and time.monotonic() - line > LINE_SECONDS:
                    line = time.monotonic()
                    self.console.print(text, highlight=False, soft_wrap=True)
                if self.step % self.s.eval_every == 0 or self._share() >= 1:
                    figures, saved = self._validate(evaluate, card), time.monotonic()
                elif time.monotonic() - saved > STATE_SECONDS:
                    self._save_state()
                    saved = time.monotonic()
        return figures

    def _one_step(self, loss: Loss) -> float:
        s, total = self.s, torch.zeros((), device=self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.net.train()
        for part in range(s.accumulate):
            torch.manual_seed(seed_of(s.seed, f"{self.step}/{part}/{self.accelerator.process_index}"))
            with self.accelerator.accumulate(self.net):
                value = loss(self.net, self.step, part)
                self.accelerator.backward(value)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.net.parameters(), s.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            total += value.detach() / s.accumulate
        if not math.isfinite(float(total)):
            raise UserError(f"The loss is {float(total)} at step {self.step}: lower --lr, or use --precision no.")
        self.step += 1
        self._average()
        return float(total)

    def rate(self) -> float:
        """The learning rate of the next step: linear warm-up (over at most a fifth of the steps), then a cosine."""
        warmup = min(self.s.warmup, self.s.steps // 5)
        warm = min(1.0, (self.step + 1) / max(1, warmup))
        return self.s.lr * warm * 0.5 * (1 + math.cos(math.pi * self._share()))

    @torch.no_grad()
    def _average(self) -> None:
        """mean <- decay mean + (1 - decay) current, with a short memory at first; counters are copied."""
        decay = min(self.s.ema, (1 + self.step) / (10 + self.step))
        current = self.accelerator.unwrap_model(self.net).state_dict()
        for name, mean in self.ema.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(current[name], 1 - decay)
            else:
                mean.copy_(current[name])

    def _tick(self, started: float) -> None:
        """Read the clock: the main process's, or one process would stop a step before the others wait for it."""
        self.elapsed = time.monotonic() - started
        if self.accelerator.num_processes > 1:
            self.elapsed = float(broadcast(torch.tensor(self.elapsed, device=self.device)))

    def _share(self) -> float:
        """How much of the training is done, by steps or by minutes, in [0, 1]."""
        by_time = 0.0 if self.s.max_minutes is None else self.elapsed / (60 * self.s.max_minutes)
        return min(1.0, max(self.step / self.s.steps, by_time))

    def _validate(self, evaluate: Evaluate, card: Card) -> dict[str, Any]:
        """Validate the averaged weights, then write model, log line and state."""
        figures: dict[str, Any] = {}
        if self.accelerator.is_main_process:
            clock = time.monotonic()
            figures = {"step": self.step, "minutes": round(self.elapsed / 60, 2), "loss": self.running}
            figures |= evaluate(self.ema, self.step)
            facts = {
                "settings": self.folder.settings,
                "steps": self.step,
                "images": self.step * self.s.batch_size,
                "minutes": round(self.elapsed / 60, 1),
                "device": self.device.type,
                "processes": self.accelerator.num_processes,
                "validation": figures,
            }
            if "calibration" in figures:
                facts["calibration"] = figures.pop("calibration")
            save_model(self.folder.model, self.ema, replace(card, training=facts), half=self.s.half)
            self.folder.log({**figures, "evaluation_seconds": round(time.monotonic() - clock, 1)})
            self._save_state()
            self.console.print("  ".join(f"{k} {_short(v)}" for k, v in figures.items()), highlight=False)
        self.accelerator.wait_for_everyone()
        return figures

    def _save_state(self) -> None:
        if not self.accelerator.is_main_process:
            return
        self.folder.save(
            {
                "step": self.step,
                "elapsed": self.elapsed,
                "running": self.running,
                "images": self.step * self.s.batch_size,
                "net": self.accelerator.unwrap_model(self.net).state_dict(),
                "ema": self.ema.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
            }
        )

    def _open(self) -> None:
        """Continue what stands in the folder, or begin there."""
        state = self.folder.load()
        if state is not None:
            self.accelerator.unwrap_model(self.net).load_state_dict(state["net"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"] is not None and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.step, self.elapsed = state["step"], state["elapsed"]
            self.running = state.get("running", math.nan)
            self.console.print(f"Continuing {self.folder.path} at step {self.step}.", highlight=False)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            if state is None:
                self.folder.begin()
            else:
                self.folder.resume(self.step)

    def _progress(self) -> Progress:
        columns = (BarColumn(20), TaskProgressColumn(), TextColumn("{task.fields[text]}"))
        return Progress(*columns, console=self.console, disable=not self.console.is_terminal)

    def _text(self, figures: dict[str, Any]) -> str:
        """One line: step, loss, rate, time left, and the last validation."""
        share = self._share()
        left = self.elapsed / 60 * (1 - share) / share
        text = f"step {self.step}/{self.s.steps}  loss {self.running:.4f}  "
        text += f"{self.step * self.s.batch_size / self.elapsed:.0f} images/s  ETA {left:.0f} min"
        shown = {k: v for k, v in figures.items() if k in ("val_accuracy", "val_loss", "bits_per_dim")}
        if "val_accuracy_by_level" in figures:
            shown = {"val_accuracy": figures["val_accuracy_by_level"]}
        return text + "".join(f"  {k} {_short(v)}" for k, v in shown.items())


def make_accelerator(s: TrainSettings) -> Accelerator:
    """Threads, device, precision and processes.

    Raises:
        UserError: the device is not there, or cannot compute in that precision.
    """
    if s.threads:
        torch.set_num_threads(s.threads)
    there = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = s.device.partition(":")
    numbers = [str(k) for k in range(torch.cuda.device_count())]
    if kind not in ("auto", "cpu", there) or (index and index not in numbers):
        names = ["cpu", *([] if there == "cpu" else [there]), *(f"cuda:{k}" for k in numbers[1:])]
        raise UserError(
            f"The device {s.device!r} is not there: this machine has {', '.join(names)} (or --device auto)."
        )
    if s.precision == "fp16" and (kind == "cpu" or there == "cpu"):
        raise UserError("--precision fp16 needs a GPU: on a CPU use --precision no or bf16.")
    if index:
        torch.cuda.set_device(int(index))
    if AcceleratorState._shared_state and not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)  # an earlier training in this process
    return Accelerator(mixed_precision=s.precision, gradient_accumulation_steps=s.accumulate, cpu=kind == "cpu")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + " ".join(f"{k}:{_short(v)}" for k, v in value.items()) + "}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
