"""Classifiers that somebody else made, as checker, verifier or judge: any network with a description.

A format is one file in cfdiff/models/adapters and a line in registry.CLASSIFIERS. It makes a `core`, (B, C, H, W) as
the network wants it -> (B, K) as it gives it; all around that is here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.models.bundled import named
from cfdiff.models.checkpoint import FORMAT, Card, Model, load_model, read_card
from cfdiff.models.description import Description, complete, description_file, read_description
from cfdiff.models.given import Given, ModelFile
from cfdiff.models.image_text import TextClassifier, as_classifier_of_texts
from cfdiff.models.outputs import Output
from cfdiff.registry import CLASSIFIERS, OUTPUTS
from cfdiff.roles import DESCRIBED

Core = Callable[[Tensor], Any]
CLOSE = 1e-3
"""How far the same answer may be off when it is asked for again, as a share of the largest number in it."""


class ClassifierFormat(Protocol):
    """An entry of registry.CLASSIFIERS."""

    def recognises(self, file: ModelFile) -> bool:
        """Whether it is for this format to load it, or to say what is wrong with it."""
        ...

    def known(self, file: ModelFile) -> dict[str, Any]:
        """What the file itself says of a `Description`."""
        ...

    def load(self, file: ModelFile, device: torch.device, steers: bool) -> Model:
        """The classifier; `steers`: it is asked for gradients."""
        ...


@dataclass(frozen=True)
class ForeignConfig:
    """What the rest of cfdiff asks of a network's config."""

    arch: str
    size: tuple[int, int]
    channels: int


class Foreign(nn.Module):
    """Logits (B, 2) of negative and positive, or (B, 3) with anything else, for images (B, C, H, W) in [-1, 1].

    Attributes:
        one_by_one: it takes one image at a time, as one that was exported so.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, core: Core, description: Description, name: str, where: str, kind: str) -> None:
        super().__init__()
        self.core, self.description, self.name, self.where = core, description, name, where
        side = (0, 0) if description.size == "images" else description.size
        self.config = ForeignConfig(description.arch or kind, side, description.channels)
        for key, values in zip(("mean", "std"), description.mean_std, strict=True):
            self.register_buffer(key, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.one_by_one = False

    @property
    def output(self) -> Output:
        """What its numbers are."""
        found: Output = OUTPUTS[self.description.output]
        return found

    def described(self, **changes: Any) -> Foreign:
        """The same network, described otherwise."""
        told = self.description.model_copy(update=changes)
        net = Foreign(self.core, told, self.name, self.where, self.config.arch).to(self.mean.device).eval()
        net.one_by_one = self.one_by_one
        return net

    def takes(self, images: tuple[int, int, int]) -> tuple[int, int, int]:
        """`images` (H, W, C) where it takes such, resized and in as many channels as it wants; else what it takes."""
        height, width, channels = images
        return images if channels in (1, self.config.channels) else (height, width, self.config.channels)

    def prepare(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] as the network wants them, differentiably."""
        told = self.description
        x = (x.float() + 1) / 2
        if x.shape[1] != told.channels:
            x = x.expand(-1, told.channels, -1, -1)
        if told.size != "images" and x.shape[2:] != told.size:
            x = F.interpolate(x, size=told.size, mode=told.interpolation, align_corners=False, antialias=True)
        return ((x - self.mean) / self.std).contiguous()

    def outputs(self, x: Tensor) -> Tensor:
        """What the network gives for images (B, C, H, W) in [-1, 1]: (B, K) float32."""
        x = self.prepare(x)
        if not self.one_by_one:
            return _numbers(self.core(x), len(x), self.name)
        return torch.cat([_numbers(self.core(one), 1, self.name) for one in x.split(1)])

    def forward(self, x: Tensor) -> Tensor:
        found = self.columns(self.outputs(x))
        # An estimate x0_hat may lie anywhere; of what could be saved as an image there must be an answer.
        if not found.isfinite().all() and float(x.abs().max()) <= 1:
            raise UserError(
                f"{self.name} gives numbers that are not finite (nan or inf) for an image: mend the classifier."
            )
        return found

    def columns(self, outputs: Tensor) -> Tensor:
        """The logits that (B, K) outputs stand for."""
        return self.output.columns(outputs, self.description.classes, self.description.against == "all")

    def check(self, images: tuple[int, int, int], steers: bool) -> None:
        """Ask it of images of this shape (H, W, C), and hold what it says against its description.

        Raises:
            UserError: in one sentence, what does not fit and what to write.
        """
        height, width, channels = images
        g = torch.Generator().manual_seed(0)
        x = (torch.rand(2, channels, height, width, generator=g) * 2 - 1).to(self.mean.device)
        self.one_by_one = False
        with torch.no_grad():
            single = self._ask(x[:1])
            self._check_numbers(single)
            if (verify := getattr(self.core, "verify", None)) is not None:
                verify(self.prepare(x[:1]), single)
            again = self._ask(x[:1])
            if not _close(single, again):
                raise UserError(
                    f"{self.name} answers otherwise each time it is asked: it was exported in training mode; call "
                    ".eval() on the network and export it again."
                )
            try:
                both = self.outputs(x)
            except Exception:  # whatever an engine raises at a number of images that it was not exported for
                self.one_by_one = True
                both = self._ask(x)
            self._check_numbers(both)
        if not _close(single, both[:1]):
            raise UserError(
                f"What {self.name} says of an image hangs on the others of the batch: it was exported in training "
                "mode; call .eval() on the network and export it again."
            )
        if steers:
            self._check_gradient(x)

    def _ask(self, x: Tensor) -> Tensor:
        try:
            return self.outputs(x)
        except UserError:
            raise
        except Exception as error:  # a foreign network raises what it likes
            size = "x".join(map(str, self.prepare(x).shape[2:]))
            raise UserError(
                f"{self.name} cannot take images of {size} pixels with {self.config.channels} channels "
                f"({said(error)}): write the size and channels that it was made for into {self.where}."
            ) from error

    def _check_numbers(self, outputs: Tensor) -> None:
        told, output, k = self.description, self.output, outputs.shape[1]
        if output.single != (k == 1) and not (output.alone and k == 1):
            fits = "logit or probability" if k == 1 else "logits, probabilities or multilabel"
            raise UserError(
                f"{self.name} gives {k} number{'s' * (k > 1)} an image, so its output is not {told.output!r}: write "
                f"output as {fits} into {self.where}."
            )
        last = 1 if output.single else k - 1
        if (highest := max(index for group in told.classes for index in group)) > last:
            raise UserError(
                f"{self.name} has the classes 0 to {last}, and no {highest}: write the two that are meant into "
                f"{self.where} (classes = index of the negative, index of the positive)."
            )
        if len(told.classes) < 2 and not output.alone:
            raise UserError(
                f"{self.name} gives {output.what}, of which classes needs two, that of the negative and that of the "
                f"positive, as 0,1: write both into {self.where}."
            )
        if not outputs.isfinite().all():
            raise UserError(
                f"{self.name} gives numbers that are not finite (nan or inf) for an image: mend the classifier."
            )
        within = bool(((outputs >= -CLOSE) & (outputs <= 1 + CLOSE)).all())
        sums = within and k > 1 and bool((outputs.sum(1) - 1).abs().max() < CLOSE)
        if output.probabilities and (not within or (output.exclusive and not sums)):
            raise UserError(
                f"{self.name} gives numbers from {float(outputs.min()):.3g} to {float(outputs.max()):.3g}, which are "
                f"no {output.what}: write the output that is true into {self.where}, as logits."
            )
        if not output.probabilities and sums:
            raise UserError(
                f"The numbers that {self.name} gives lie in [0, 1] and sum to 1, so they are probabilities and no "
                f'logits: write output = "probabilities" into {self.where}.'
            )

    def _check_gradient(self, x: Tensor) -> None:
        advice = "name it as --verifier or --judge, or give a checker that torch can differentiate (TorchScript, timm)."
        try:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                columns = self.columns(self.outputs(x))
                g = torch.autograd.grad((columns[:, 1] - columns[:, 0]).sum(), x)[0]
        except Exception as error:  # as above
            raise UserError(f"{self.name} has no gradient, which a checker needs ({said(error)}): {advice}") from error
        if not g.isfinite().all() or not g.any():
            what = "is zero everywhere" if g.isfinite().all() else "is not finite"
            raise UserError(f"The gradient of {self.name}, which a checker needs, {what}: {advice}")


class OwnClassifiers:
    """The entry of registry.CLASSIFIERS for our own files."""

    @staticmethod
    def recognises(file: ModelFile) -> bool:
        """Whether it is a safetensors file of ours, or one that nobody can read."""
        return isinstance(file, Path) and file.suffix == ".safetensors" and file.is_file() and is_ours(file)

    @staticmethod
    def known(file: ModelFile) -> dict[str, Any]:
        """Its card says all."""
        assert isinstance(file, Path)
        raise UserError(f"{file.name} was made by cfdiff and says itself what it is: it needs no description.")

    @staticmethod
    def load(file: ModelFile, device: torch.device, steers: bool) -> Model:
        """See `load_model`; of an image-text model the classifier that its class texts make (`image_text`)."""
        assert isinstance(file, Path)
        if read_card(file).kind == "clip":
            return as_classifier_of_texts(load_model(file, "clip", device))
        return load_model(file, "clean-classifier", device)


def load_classifier(file: ModelFile, device: str | torch.device = "cpu", steers: bool = False) -> Model:
    """The clean classifier of a file, by the first of registry.CLASSIFIERS that knows it, else as our own.

    Raises:
        UserError: it is missing or unreadable, of another kind, or nobody says what it is.
    """
    file = file if isinstance(file, Given) else named(file)
    form = format_of(file)
    if form is None:
        assert isinstance(file, Path)
        return load_model(file, "clean-classifier", device)
    return form.load(file, torch.device(device), steers)


def format_of(file: ModelFile) -> ClassifierFormat | None:
    """The entry of registry.CLASSIFIERS for a file; None where there is none."""
    return next((CLASSIFIERS[name] for name in CLASSIFIERS if CLASSIFIERS[name].recognises(file)), None)


def classes_of(file: ModelFile) -> tuple[str, str] | None:
    """The names of the negative and the positive class of a classifier, where it or its description says them."""
    file = file if isinstance(file, Given) else named(file)
    form = format_of(file)
    if isinstance(file, Path) and (form is None or form is OwnClassifiers):
        names = read_card(file).data.get("classes")
    else:
        names = told_of(form, file).get("names") if form is not None else None
        names = names.split(",") if isinstance(names, str) else names
    return None if names is None else (str(names[0]).strip(), str(names[1]).strip())


def told_of(form: Any, file: ModelFile) -> dict[str, Any]:
    """All that is told of a classifier: by its own file, and over that by its description."""
    return {**form.known(file), **(file.told if isinstance(file, Given) else read_description(file))}


def foreign_model(
    file: ModelFile, kind: str, core: Core, description: Description, sha256: str, device: torch.device
) -> Model:
    """The model of a core; `sha256` is of the file, to which that of the description is added."""
    net = Foreign(core, description, file.name, _where(file), kind)
    card = Card(
        "clean-classifier",
        {"format": kind, "arch": description.arch, "description": description.facts},
        None,
        {} if description.names is None else {"classes": list(description.names)},
        {},
    )
    name = file.stem if isinstance(file, Path) else file.name
    return Model(net.eval().requires_grad_(False).to(device), card, f"{sha256}{DESCRIBED}{description.sha256}", name)


def _where(file: ModelFile) -> str:
    """What messages call the place of a description."""
    return f"as_classifier({file.name}, ...)" if isinstance(file, Given) else description_file(file).name


def describe(
    form: Any, file: ModelFile, outputs: int | None = None, more: Mapping[str, Any] | None = None
) -> Description:
    """The description of a classifier, with what is told `more` of it; UserError where it is not whole."""
    return complete(file.name, _where(file), {**told_of(form, file), **(more or {})}, outputs)


def check_images(model: Model, images: tuple[int, int, int], steers: bool) -> None:
    """Whether a classifier can be asked of such images (H, W, C); UserError where not. Ours are known to."""
    if isinstance(model.net, Foreign):
        model.net.check(images, steers)


def foreign_members(model: Model) -> tuple[Foreign, ...]:
    """The described networks in a model, which may be several in one."""
    return tuple(net for net in members(model) if isinstance(net, Foreign))


def members(model: Model) -> Sequence[Any]:
    """The networks of a model, which may be several in one."""
    found: Sequence[Any] = getattr(model.net, "members", [model.net])
    return found


def descriptions(models: Mapping[str, Model | None]) -> dict[str, list[dict[str, Any]]]:
    """Role -> the name and description of each described classifier in it, as a result stores them."""
    found = {role: [_described(net) for net in members(model)] for role, model in models.items() if model is not None}
    return {role: told for role, all_of in found.items() if (told := [one for one in all_of if one is not None])}


def _described(net: Any) -> dict[str, Any] | None:
    """The name and description of a network that somebody described; None of others."""
    if isinstance(net, Foreign):
        return {"name": net.name, "kind": net.config.arch, **net.description.facts}
    return getattr(net, "described", None) if isinstance(net, TextClassifier) else None


def digest(paths: Sequence[Path]) -> str:
    """sha256 (hex) of a file; of several, that of all of theirs."""
    each = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return each[0] if len(each) == 1 else hashlib.sha256("\n".join(each).encode()).hexdigest()


def is_ours(path: Path) -> bool:
    """Whether a safetensors file is of cfdiff, or damaged, which `load_model` then says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return True


def said(error: Exception) -> str:
    """What an exception says, in one line: of an engine's long report the line that names the error, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    named = [line for line in lines if re.match(r"\w*(Error|Exception): ", line)]
    return (named[-1] if named else lines[0]).rstrip(". ")[:300]


def _numbers(out: Any, n: int, name: str) -> Tensor:
    """(n, K) float32 of what a network gives."""
    if not isinstance(out, Tensor):
        raise UserError(
            f"{name} gives a {type(out).__name__} and no tensor: let it give one of shape (images, outputs) alone."
        )
    flat = out[:, None] if out.ndim == 1 else out.flatten(1)
    if out.ndim == 0 or len(flat) != n or any(side != 1 for side in out.shape[2:]):
        raise UserError(
            f"{name} gives a tensor of shape {tuple(out.shape)} for {n} image{'s' * (n > 1)}: let it give (images, "
            "outputs)."
        )
    return flat.float()


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= CLOSE * max(1.0, float(a.abs().max())))
