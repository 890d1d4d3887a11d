"""One training loop for every network: EMA, warm-up and cosine, clipping, accumulation, exact resume, live progress.

The loop knows nothing of losses: it gets `loss(net, step, share)` and `evaluate(net, step)`. Before each pass torch is
seeded with (seed, step, pass, process), so a resumed run repeats an undisturbed one to the bit on the same machine
(unless --max-minutes sets the rate by the clock).
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, save_model
from cfdiff.workflows.settings import TrainSettings

Loss = Callable[[nn.Module, int], Tensor]
Evaluate = Callable[[nn.Module, int], dict[str, Any]]
LINE_SECONDS = 30  # between lines of progress where no terminal shows a bar
FREE = {
    "out",
    "force",
    "max_minutes",
    "device",
    "threads",
    "eval_every",
    "val_limit",
    "half",
    "config",
}  # may change on resume


class Trainer:
    """Runs one training in the folder `out`; `run()` starts it or continues it."""

    def __init__(self, s: TrainSettings, out: Path, accelerator: Accelerator, net: nn.Module) -> None:
        self.s, self.out, self.accelerator = s, out, accelerator
        self.console = Console(quiet=not accelerator.is_main_process, stderr=True)
        self.ema = copy.deepcopy(net).eval().requires_grad_(False).to(accelerator.device)
        optimizer = torch.optim.AdamW(net.parameters(), s.lr, betas=(0.9, 0.99), weight_decay=s.weight_decay)
        self.net, self.optimizer = accelerator.prepare(net, optimizer)
        self.step, self.elapsed, self.images = 0, 0.0, 0

    def run(self, loss: Loss, evaluate: Evaluate, card: Callable[[dict[str, Any]], Card]) -> dict[str, Any]:
        """Train to the last step or minute; returns the last validation. Writes model.safetensors, log.jsonl, state.pt."""
        s = self.s
        self._open()
        started, last_line, figures = time.monotonic() - self.elapsed, time.monotonic(), {}
        running = None
        with self._progress() as progress:
            task = progress.add_task("", total=s.steps, completed=self.step, text="")
            while self._share() < 1:
                value = self._one_step(loss)
                running = value if running is None else 0.98 * running + 0.02 * value
                self.elapsed = time.monotonic() - started
                rate = self.images / self.elapsed
                text = f"loss {running:.4f}  {rate:.0f} images/s"
                progress.update(task, completed=self.step, text=text)
                if not self.console.is_terminal and time.monotonic() - last_line > LINE_SECONDS:
                    last_line = time.monotonic()
                    self.console.print(
                        f"step {self.step}/{s.steps}  {text}  {self.elapsed / 60:.1f} min  ETA {self._eta():.0f} min"
                    )
                if self.step % s.eval_every == 0 or self._share() >= 1:
                    figures = self._checkpoint(evaluate, card, running)
        return figures

    def _one_step(self, loss: Loss) -> float:
        s, total = self.s, 0.0
        rate = s.lr * min(1.0, (self.step + 1) / max(1, s.warmup)) * 0.5 * (1 + math.cos(math.pi * self._share()))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.net.train()
        for part in range(s.accumulate):
            torch.manual_seed(self._seed(part))
            with self.accelerator.accumulate(self.net):
                value = loss(self.net, self.step * s.accumulate + part)
                self.accelerator.backward(value)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.net.parameters(), s.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            total += float(value.detach()) / s.accumulate
        if not math.isfinite(total):
            raise UserError(f"The loss is {total} at step {self.step}: lower --lr, or use --precision no.")
        self.step += 1
        self.images += s.batch_size
        self._average()
        return total

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.s.ema, (1 + self.step) / (10 + self.step))
        current = self.accelerator.unwrap_model(self.net).state_dict()
        for name, mean in self.ema.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(current[name], 1 - decay)
            else:
                mean.copy_(current[name])

    def _share(self) -> float:
        """How much of the training is done, by steps or by minutes, in [0, 1]."""
        by_time = 0.0 if self.s.max_minutes is None else self.elapsed / (60 * self.s.max_minutes)
        return min(1.0, max(self.step / self.s.steps, by_time))

    def _eta(self) -> float:
        share = self._share()
        return self.elapsed / 60 * (1 - share) / share if share else float("nan")

    def _seed(self, part: int) -> int:
        text = f"{self.s.seed}/{self.step}/{part}/{self.accelerator.process_index}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")

    def _progress(self) -> Progress:
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self.console, disable=not self.console.is_terminal)

    def _checkpoint(self, evaluate: Evaluate, card: Callable[[dict[str, Any]], Card], loss: float) -> dict[str, Any]:
        """Validate the averaged weights, then write model, log line and state."""
        torch.manual_seed(self._seed(-1))
        figures: dict[str, Any] = {}
        if self.accelerator.is_main_process:
            clock = time.monotonic()
            figures = {
                "step": self.step,
                "minutes": round(self.elapsed / 60, 2),
                "loss": loss,
                **evaluate(self.ema, self.step),
            }
            facts = {
                "steps": self.step,
                "images": self.images,
                "minutes": round(self.elapsed / 60, 1),
                "validation": figures,
            }
            save_model(self.out / "model.safetensors", self.ema, card(facts), half=self.s.half)
            with open(self.out / "log.jsonl", "a") as log:
                log.write(json.dumps({**figures, "evaluation_seconds": round(time.monotonic() - clock, 1)}) + "\n")
            self._save_state()
            shown = "  ".join(f"{k} {_short(v)}" for k, v in figures.items())
            self.console.print(shown, highlight=False)
        self.accelerator.wait_for_everyone()
        return figures

    def _save_state(self) -> None:
        state = {
            "settings": self._identity(),
            "step": self.step,
            "elapsed": self.elapsed,
            "images": self.images,
            "net": self.accelerator.unwrap_model(self.net).state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
        }
        temporary = self.out / "state.pt.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.out / "state.pt")

    def _identity(self) -> str:
        return json.dumps(self.s.model_dump(mode="json", exclude=FREE), sort_keys=True)

    def _open(self) -> None:
        """Make the folder, or continue what stands there if its settings are the same."""
        path = self.out / "state.pt"
        if path.exists() and not self.s.force:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["settings"] != self._identity():
                old, new = json.loads(state["settings"]), json.loads(self._identity())
                names = ", ".join(k for k in new if new[k] != old.get(k))
                raise UserError(
                    f"{self.out} holds a training with other settings ({names}): "
                    "repeat those, give another --out, or --force to start anew."
                )
            self.accelerator.unwrap_model(self.net).load_state_dict(state["net"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"] is not None and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.step, self.elapsed, self.images = state["step"], state["elapsed"], state["images"]
            self.console.print(f"Continuing {self.out} at step {self.step}.", highlight=False)
        elif self.accelerator.is_main_process:
            (self.out / "log.jsonl").write_text("")
            (self.out / "settings.json").write_text(self.s.model_dump_json(indent=2, exclude={"out", "force"}) + "\n")


def start(s: TrainSettings, default_out: str) -> tuple[Accelerator, Path]:
    """Threads, device, precision and the output folder of a training."""
    if s.threads:
        torch.set_num_threads(s.threads)
    out = s.out or Path("runs") / default_out
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise UserError(f"The folder {str(out)!r} cannot be written ({error.strerror}): give another --out.") from error
    accelerator = Accelerator(
        mixed_precision=s.precision, gradient_accumulation_steps=s.accumulate, cpu=s.device == "cpu"
    )
    if s.device != "auto" and accelerator.device.type != s.device.split(":")[0]:
        raise UserError(f"The device {s.device!r} is not there; this machine has {accelerator.device.type!r}.")
    if (s.batch_size % (s.accumulate * accelerator.num_processes)) != 0:
        raise UserError(
            f"--batch-size {s.batch_size} must be a multiple of --accumulate times the number of processes "
            f"({s.accumulate} x {accelerator.num_processes})."
        )
    return accelerator, out


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + " ".join(f"{k}:{_short(v)}" for k, v in value.items()) + "}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
