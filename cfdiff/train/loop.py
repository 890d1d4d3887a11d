"""One training loop for every network: EMA, warm-up and cosine, clipping, accumulation, exact resume, live progress.

The loop knows nothing of losses: it gets `loss(net, step, part)` and `evaluate(net, step, share)`. Batches and their
random numbers are functions of (seed, step), and torch is seeded before each pass (for dropout), so a resumed run
repeats an undisturbed one to the bit on the same machine (unless --max-minutes sets the rate by the clock).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from torch import Tensor, nn

from cfdiff import stopping
from cfdiff.data.source import Source
from cfdiff.engine.noise import seed_of
from cfdiff.errors import UserError, first_line
from cfdiff.models.checkpoint import Card, save_model
from cfdiff.progress import Progress as Watch
from cfdiff.progress import silent
from cfdiff.train.average import Average
from cfdiff.train.batches import Batches
from cfdiff.train.budget import Budget
from cfdiff.train.data import TrainingData
from cfdiff.train.folder import RunFolder
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import TrainSettings

Loss = Callable[[nn.Module, int, int], Tensor]
"""(net, step, part) -> the mean loss of this process's share of pass `part`."""


class Evaluate(Protocol):
    """A validation: (averaged net, step, share of the whole) -> figures for the log and the card. The net is a copy,
    and saved as the validation leaves it."""

    def __call__(self, net: nn.Module, step: int, share: float) -> dict[str, Any]: ...

    def passes(self, share: float) -> int:
        """How many images a validation of that share sends through the network, at least 1."""
        ...


class Named(Protocol):
    """What a network learns from, as its folder is told of it."""

    @property
    def name(self) -> str:
        """For messages, and for the name of the folder."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of all of it that the training depends on."""
        ...


class Learned(Protocol):
    """Images (`TrainingData`), or anything else of which `train` has a name and a fingerprint, such as bags."""

    @property
    def train(self) -> Named:
        """What is trained on."""
        ...


BETAS = (0.9, 0.99)
APART = ("calibration", "latents", "intercept")
"""What a validation measures that the model is used with: it stands beside the figures in the card, not among them."""
SHOWN = ("val_accuracy", "val_image_to_text", "val_auroc", "val_mae", "val_loss", "bits_per_dim", "psnr")
PROBE = 0.01
"""Share of a validation that is done before the first step, to learn what a whole one will take."""
READ_SECONDS = 1
"""Between looks at the loss, each of which makes a GPU wait."""
LINE_SECONDS = 30
"""Between lines of progress where no terminal shows a bar."""
WARMUP_SHARE = 0.2
"""Of the training, after which the learning rate has been at its height in any case."""
STATE_SECONDS = 300
"""Between states written without a validation: what a kill costs at most."""


class Trainer:
    """Runs one training in its folder; `run()` starts it or continues it."""

    def __init__(
        self,
        s: TrainSettings,
        data: Learned,
        net: nn.Module,
        role: str,
        watch: Watch | None = None,
        saved: Callable[[nn.Module], nn.Module] = lambda net: net,
    ) -> None:
        """`role` names the folder where the settings name none: runs/ROLE-DATA. `watch` is told how far it is, and the
        terminal then is not. `saved` gives the network as it is validated and saved, of the one that is trained.

        Raises:
            UserError: the device or precision is not there, the batch cannot be cut, the folder cannot be written.
        """
        s = s if s.half is not None else s.model_copy(update={"half": True})
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
        self.watch = watch or silent
        self.console = Console(quiet=watch is not None or not self.accelerator.is_main_process, stderr=True)
        self.budget = Budget(s.max_minutes)
        self.average = Average(net, s.ema, self.accelerator.device, saved)
        net = net.to(self.accelerator.device)
        fused = self.accelerator.device.type == "cuda"  # a GPU would wait for the launch of a kernel for each tensor
        optimizer = torch.optim.AdamW(
            net.parameters(), s.lr, betas=BETAS, weight_decay=s.weight_decay, fused=fused or None
        )
        self.net, self.optimizer = self.accelerator.prepare(net, optimizer)
        self.step, self.elapsed, self.share, self.running = 0, 0.0, 0.0, math.nan
        self.losses: Tensor | None = None  # the running loss, on the device
        self.read_at, self.read_step = time.monotonic(), 0
        self.has_model = self.ended = False
        self.first = 0

    @property
    def device(self) -> torch.device:
        """Where the network is, and where `loss` must put its tensors."""
        return self.accelerator.device

    def batches(
        self, source: Source | None = None, size: int | None = None, seed: int | None = None, *, balance: bool = False
    ) -> Batches:
        """Training batches of this process, on the device: of its data, or of `source`; of the settings' size and
        seed where none is given."""
        if source is None:
            assert isinstance(self.data, TrainingData), "whoever learns from other things says from which images"
            source = self.data.train
        return Batches(
            source,
            self.s.batch_size if size is None else size,
            self.s.seed if seed is None else seed,
            balance=balance,
            accumulate=self.s.accumulate,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            device=self.device,
        )

    def say_pretrained(self, taken: int | None, net: nn.Module) -> None:
        """How much of a network began from the file of --pretrained; nothing where None was given."""
        if taken is not None:
            self.console.print(f"{taken} of {len(net.state_dict())} tensors start from the pretrained weights.")

    def run(self, loss: Loss, evaluate: Evaluate, card: Card) -> TrainResult:
        """Train to the last step or minute.

        `card` says what the network is; what the training did is added to it at each validation.
        """
        with self.folder.owned(self.accelerator.is_main_process):
            return self._run(loss, evaluate, card)

    def _run(self, loss: Loss, evaluate: Evaluate, card: Card) -> TrainResult:
        self._open()
        figures: dict[str, Any] = {}
        whole = evaluate.passes(1.0)
        if self.budget.limited and self.share < 1 and self.accelerator.is_main_process:
            net = self.average.as_saved(False)
            with self.budget.validating(evaluate.passes(PROBE)):
                evaluate(net, self.step, PROBE)
        over = self._tick(whole)
        line, saved = time.monotonic(), time.monotonic()
        with self._progress() as progress:
            task = progress.add_task("", total=1.0, text="")
            while not over:
                with stopping.whole():  # whoever is told to end loses no step
                    with self.budget.one_step():
                        self._one_step(loss)
                    if stopping.asked():
                        self._leave(card)
                over = self._tick(whole)
                if time.monotonic() - self.read_at > READ_SECONDS:
                    self._read_loss()
                progress.update(task, completed=self.share, text=self._text(figures))
                self.watch(self._text(figures), int(1000 * self.share), 1000)
                if not self.console.is_terminal and time.monotonic() - line > LINE_SECONDS:
                    line = time.monotonic()
                    self.console.print(self._text(figures), highlight=False, soft_wrap=True)
                due = over or self.step % self.s.eval_every == 0
                share = self._validation_share(whole, over) if due else 0.0
                if share:
                    figures, saved = self._validate(evaluate, card, share, over), time.monotonic()
                    over = over or self._tick(whole)
                    if over and self.step < self.s.steps and not self.ended:
                        figures = self._validate(evaluate, card, self.budget.for_last(whole), over)
                elif due or time.monotonic() - saved > STATE_SECONDS:
                    self._leave(card)
                    saved = time.monotonic()
        return TrainResult.of(self.folder.model)

    def _leave(self, card: Card) -> None:
        """Save all that is needed to go on from here, and a model."""
        self._read_loss()
        if not self.has_model:
            self._save_model(card, self._known(), self.average.as_saved(False))
        self._save_state()

    def _one_step(self, loss: Loss) -> Tensor:
        """The loss of one step, on the device: reading it here would make a GPU wait at each step."""
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
        self.step += 1
        self.losses = total if self.losses is None else 0.98 * self.losses + 0.02 * total
        self.average.update(self.accelerator.unwrap_model(self.net), self.step)
        return total

    def _read_loss(self) -> None:
        """Read the running loss, which a single loss that is not finite makes not finite for good.

        Raises:
            UserError: that happened since the last look; nothing was saved since.
        """
        if self.losses is not None:
            self.running = float(self.losses)
            if not math.isfinite(self.running):
                raise UserError(
                    f"The loss is {self.running} between the steps {self.read_step} and {self.step}: "
                    "lower --lr, or use --precision no."
                )
        self.read_at, self.read_step = time.monotonic(), self.step

    def rate(self) -> float:
        """The learning rate of the next step: linear warm-up, then a cosine.

        The warm-up takes at most a fifth of the steps, and of the time where that is limited: else a training whose
        minutes are enough for no more steps than that would never reach its rate.
        """
        warmup = min(self.s.warmup, int(WARMUP_SHARE * self.s.steps))
        warm = min(1.0, max((self.step + 1) / max(1, warmup), self.share / WARMUP_SHARE))
        return self.s.lr * warm * 0.5 * (1 + math.cos(math.pi * self.share))

    def _tick(self, passes: int) -> bool:
        """Read the main process's clock (or one would stop a step before the others wait for it): is it the end?"""
        self.elapsed = self.budget.elapsed
        told = [self.budget.share(passes), float(self.budget.over(passes)), self.elapsed]
        if self.budget.limited and self.accelerator.num_processes > 1:
            told = broadcast(torch.tensor(told, device=self.device)).tolist()
        self.share = min(1.0, max(self.step / self.s.steps, told[0]))
        self.elapsed = told[2]
        return self.ended or self.step >= self.s.steps or (bool(told[1]) and self.step > self.first)

    def _validation_share(self, passes: int, last: bool) -> float:
        """How much of a validation fits, by the main process's clock; 0 to leave it out."""
        if not self.budget.limited:
            return 1.0
        share = self.budget.for_last(passes) if last else self.budget.for_another(passes)
        if self.accelerator.num_processes > 1:
            share = float(broadcast(torch.tensor(share, device=self.device)))
        return share

    def _validate(self, evaluate: Evaluate, card: Card, share: float, last: bool) -> dict[str, Any]:
        """Validate the weights as they are saved, then write model, log line and state."""
        self._read_loss()
        figures: dict[str, Any] = {}
        if self.accelerator.is_main_process:
            clock, known = time.monotonic(), self._known()
            if not self.has_model:  # whoever is stopped during the first validation has a model
                with self.budget.saved():
                    self._save_model(card, known, self.average.as_saved(False))
            net = self.average.as_saved(bool(self.s.half))
            with self.budget.validating(evaluate.passes(share)):
                figures = known | evaluate(net, self.step, share)
            with self.budget.saved():
                self._save_model(card, figures, net)
                figures = {k: v for k, v in figures.items() if k not in APART}
                self.folder.log({**figures, "evaluation_seconds": round(time.monotonic() - clock, 1)})
                self.ended = last
                self._save_state()
            self.console.print("  ".join(f"{k} {_short(v)}" for k, v in figures.items()), highlight=False)
        self.ended = last
        self.accelerator.wait_for_everyone()
        return figures

    def _known(self) -> dict[str, Any]:
        """What is known without a validation."""
        return {"step": self.step, "minutes": round(self.elapsed / 60, 2), "loss": self.running}

    def _save_model(self, card: Card, figures: dict[str, Any], net: nn.Module) -> None:
        """Write the model file; its card says what the training did, and `figures`."""
        if not self.accelerator.is_main_process:
            return
        facts = {
            "settings": self.folder.settings,
            "steps": self.step,
            "images": self.step * self.s.batch_size,
            "minutes": round(self.elapsed / 60, 1),
            "device": self.device.type,
            "processes": self.accelerator.num_processes,
            "validation": {k: v for k, v in figures.items() if k not in APART},
        }
        facts |= {k: figures[k] for k in APART if k in figures}
        save_model(self.folder.model, net, replace(card, training=facts), half=bool(self.s.half))
        self.has_model = True

    def _save_state(self) -> None:
        if not self.accelerator.is_main_process:
            return
        self.folder.save(
            {
                "step": self.step,
                # A training that ended by the clock has used its time up, whatever the last step left of it.
                "elapsed": max(self.budget.elapsed, self.budget.limit if self.budget.limited and self.ended else 0.0),
                "running": self.running,
                "images": self.step * self.s.batch_size,
                "net": self.accelerator.unwrap_model(self.net).state_dict(),
                "ema": self.average.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
            }
        )

    def _open(self) -> None:
        """Continue what stands in the folder, or begin there."""
        state = self.folder.load()
        if state is not None:
            try:
                self.accelerator.unwrap_model(self.net).load_state_dict(state["net"])
                self.average.net.load_state_dict(state["ema"])
                self.optimizer.load_state_dict(state["optimizer"])
            except (RuntimeError, ValueError) as error:
                raise UserError(
                    f"{self.folder.path} holds the training of another network, such as an older cfdiff made: give "
                    "another --out, or --force to start anew."
                ) from error
            if state["scaler"] is not None and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.step, self.budget.earlier = state["step"], state["elapsed"]
            self.has_model = self.folder.model.exists()
            self.ended = self.step >= self.s.steps or self.budget.earlier >= self.budget.limit
            self.running = state.get("running", math.nan)
            if math.isfinite(self.running):
                self.losses = torch.tensor(self.running, device=self.device)
            self.read_step = self.step
            self.console.print(f"Continuing {self.folder.path} at step {self.step}.", highlight=False)
        self.first = self.step
        self.share = 1.0 if self.ended else 0.0
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            if state is None:
                self.folder.begin()
                self._save_state()  # a full disk shows here, and no model is ever without a state to go on from
            else:
                self.folder.resume(self.step)

    def _progress(self) -> Progress:
        columns = (BarColumn(20), TaskProgressColumn(), TextColumn("{task.fields[text]}"))
        return Progress(*columns, console=self.console, disable=not self.console.is_terminal)

    def _text(self, figures: dict[str, Any]) -> str:
        """One line: step, loss, rate, time left, and the last validation."""
        left = self.elapsed / 60 * (1 - self.share) / max(self.share, 1e-9)
        text = f"step {self.step}/{self.s.steps}  loss {self.running:.4f}  "
        text += f"{self.step * self.s.batch_size / max(self.elapsed, 1e-9):.0f} images/s  ETA {left:.0f} min"
        shown = {k: v for k, v in figures.items() if k in SHOWN}
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
    torch.backends.cudnn.allow_tf32 = True  # a GPU's quickest float32, see pick_device
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
    # Without a GPU torchrun's processes work together only where accelerate is told that they are to use the CPU.
    cpu = "cpu" in (kind, there)
    started = int(os.environ.get("WORLD_SIZE") or 1)
    try:
        accelerator = Accelerator(mixed_precision=s.precision, gradient_accumulation_steps=s.accumulate, cpu=cpu)
    except (ValueError, RuntimeError) as error:
        if started == 1:
            raise
        raise UserError(
            f"The {started} processes that were started do not find one another ({first_line(error)}): start them with "
            "torchrun or accelerate launch."
        ) from error
    if accelerator.num_processes != started:
        raise UserError(
            f"{started} processes were started, and each would train by itself: start one (cfdiff without torchrun or "
            "accelerate launch), or as many as there are GPUs."
        )
    return accelerator


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + " ".join(f"{k}:{_short(v)}" for k, v in value.items()) + "}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
