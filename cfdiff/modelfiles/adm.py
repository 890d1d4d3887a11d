"""cfdiff models import adm and adm-classifier: a checkpoint of guided-diffusion becomes a model file of ours.

What shows in the checkpoint is read there; a flag that contradicts it is an error which names the flag. What does not
show (heads, the noise schedule) has guided-diffusion's own default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.errors import UserError
from cfdiff.modelfiles.description import Description
from cfdiff.modelfiles.inspect import describe
from cfdiff.modelfiles.settings import AdmSettings, ImportAdmClassifierSettings, ImportAdmSettings
from cfdiff.models.adapters.adm import AdmEncoder, AdmUNet, Blocks, EncoderConfig, UNetConfig
from cfdiff.models.adapters.adm_layout import Layout, read_layout, read_state
from cfdiff.models.adapters.adm_respace import respaced, used_timesteps
from cfdiff.models.adapters.told import check_classes
from cfdiff.models.checkpoint import Card, save_model


def import_adm(s: ImportAdmSettings) -> Description:
    """Write the model file of a UNetModel; what it says of itself.

    Raises:
        UserError: the checkpoint cannot be read, or is not of a network that the flags describe.
    """
    out = _out(s)
    state, layout = _read(s, encoder=False)
    blocks = layout.blocks or 1
    _check(s.checkpoint.name, _sizes(s, layout, blocks, s.attention_resolutions, "attention-resolutions"))
    _check(
        s.checkpoint.name,
        [
            Flag("num-channels", s.num_channels, layout.width),
            Flag("num-res-blocks", s.num_res_blocks, blocks),
            Flag("channel-mult", _numbers(s.channel_mult or "", "channel-mult"), layout.mult(blocks)),
            Flag("class-cond", s.class_cond, layout.labels > 0),
            Flag("learn-sigma", s.learn_sigma, layout.out == 2 * layout.channels),
            Flag("use-scale-shift-norm", s.use_scale_shift_norm, layout.scale_shift),
            Flag("resblock-updown", s.resblock_updown, layout.resblock_updown),
        ],
    )
    classes = s.classes
    if layout.labels:
        classes = _classes(s, layout, s.null_class)
    elif classes is not None or s.null_class is not None:
        raise UserError(f"{s.checkpoint.name} learned no classes: leave out --classes and --null-class.")
    schedule, process = _process(s)
    config = _config(
        UNetConfig,
        s.checkpoint.name,
        **_blocks(s, layout, blocks),
        **process,
        heads=s.num_heads,
        head_width=None if s.num_head_channels == -1 else s.num_head_channels,
        heads_up=None if s.num_heads_upsample == -1 else s.num_heads_upsample,
        learned_sigma=layout.out == 2 * layout.channels,
        labels=layout.labels,
        told=classes,
        nothing=s.null_class,
    )
    _check_heads(s.checkpoint.name, config)
    net = AdmUNet(config)
    _load(net, state, s.checkpoint.name)
    _try(
        net,
        s.checkpoint.name,
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64) if classes else None,
    )
    card = Card(
        "diffusion",
        config.model_dump(mode="json"),
        schedule.config,
        _data(s),
        _made(s),
        parametrisation="x0" if s.predict_xstart else "eps",
        learned_sigma=config.learned_sigma,
        condition="class" if classes else None,
        told_nothing=not layout.labels or s.null_class is not None,
    )
    save_model(out, net, card, half=s.half)
    return describe(out)


def import_adm_classifier(s: ImportAdmClassifierSettings) -> Description:
    """Write the model file of an EncoderUNetModel, a guide of two of its classes; what it says of itself.

    Raises:
        UserError: as `import_adm`.
    """
    out = _out(s)
    state, layout = _read(s, encoder=True)
    blocks, resolutions = s.classifier_depth, layout.resolutions
    if resolutions is None:  # with resblock_updown only the depth says which of the blocks halve the size
        resolutions = (len(layout.widths) + 1) // (blocks + 1)
    residual = len(layout.widths) - (resolutions - 1 if layout.resblock_updown else 0)
    if residual != resolutions * blocks:
        raise UserError(
            f"{s.checkpoint.name} has {len(layout.widths)} residual blocks on its way down, which --classifier-depth "
            f"{blocks} does not give: give another."
        )
    _check(
        s.checkpoint.name,
        _sizes(s, layout, blocks, s.classifier_attention_resolutions, "classifier-attention-resolutions"),
    )
    _check(
        s.checkpoint.name,
        [
            Flag("classifier-width", s.classifier_width, layout.width),
            Flag("classifier-pool", s.classifier_pool, layout.pool),
            Flag("classifier-use-scale-shift-norm", s.classifier_use_scale_shift_norm, layout.scale_shift),
            Flag("classifier-resblock-updown", s.classifier_resblock_updown, layout.resblock_updown),
        ],
    )
    classes = _classes(s, layout, None)
    schedule, process = _process(s)
    config = _config(
        EncoderConfig,
        s.checkpoint.name,
        **_blocks(s, layout, blocks),
        **process,
        head_width=s.num_head_channels,
        labels=layout.labels,
        told=classes,
        pool=layout.pool,
        schedule=schedule.config,
    )
    _check_heads(s.checkpoint.name, config)
    net = AdmEncoder(config)
    _load(net, state, s.checkpoint.name)
    _try(net, s.checkpoint.name, torch.zeros(1))
    card = Card("noisy-classifier", config.model_dump(mode="json"), schedule.config, _data(s), _made(s))
    save_model(out, net, card, half=s.half)
    return describe(out)


@dataclass(frozen=True)
class Flag:
    """A flag, what it was given as (None if it was not), and what the checkpoint has."""

    name: str
    given: Any
    own: Any


def _check(where: str, flags: Sequence[Flag]) -> None:
    wrong = [flag for flag in flags if flag.given not in (None, ()) and flag.given != flag.own]
    if wrong:
        given = ", ".join(f"--{flag.name} {_word(flag.given)}" for flag in wrong)
        own = ", ".join(f"--{flag.name} {_word(flag.own)}" for flag in wrong)
        raise UserError(f"{where} is no network of {given}: by its tensors it is one of {own}.")


def _sizes(s: AdmSettings, layout: Layout, blocks: int, resolutions: str | None, name: str) -> list[Flag]:
    """The flags that hang on the size of the images."""
    mult, own = layout.mult(blocks), layout.attention(blocks)
    flags = [Flag("in-channels", s.in_channels, layout.channels)]
    if layout.side is not None:
        flags.append(Flag("image-size", s.image_size, layout.side * 2 ** (len(mult) - 1)))
    given = _numbers(resolutions or "", name)
    if given and flags[-1].given in (None, flags[-1].own):
        factors = tuple(sorted(s.image_size // int(r) for r in given if 0 < r <= s.image_size))
        used = tuple(f for f in factors if f < 2 ** len(mult))
        sizes = {f * r for f, r in zip(own, sorted(given, reverse=True), strict=False)}
        if used != own and layout.side is None and len(own) == len(given) and len(sizes) == 1:
            flags.append(Flag("image-size", s.image_size, int(sizes.pop())))
        elif used != own:
            flags.append(Flag(name, given, tuple(s.image_size // f for f in own)))
    if s.image_size % 2 ** (len(mult) - 1):
        raise UserError(
            f"{s.checkpoint.name} halves its images {len(mult) - 1} times, so --image-size {s.image_size} cannot be: "
            f"give a multiple of {2 ** (len(mult) - 1)}."
        )
    return flags


def _blocks(s: AdmSettings, layout: Layout, blocks: int) -> dict[str, Any]:
    """The entries of `Blocks` that show in a checkpoint, and the order of attention."""
    return {
        "image": s.image_size,
        "channels": layout.channels,
        "width": layout.width,
        "blocks": blocks,
        "mult": layout.mult(blocks),
        "attention": layout.attention(blocks),
        "new_attention_order": s.use_new_attention_order,
        "scale_shift": layout.scale_shift,
        "resblock_updown": layout.resblock_updown,
        "stem": layout.stem,
    }


def _process(s: AdmSettings) -> tuple[NoiseSchedule, dict[str, Any]]:
    """The noise schedule, and how the network counts its timesteps."""
    T = s.diffusion_steps
    if s.rescale_timesteps is None and T != 1000:
        raise UserError(
            f"With --diffusion-steps {T} say whether timesteps are scaled to 1000: --rescale-timesteps False is the "
            "default of guided-diffusion, True that of improved-diffusion."
        )
    schedule = NoiseSchedule.from_config({"name": s.noise_schedule, "T": T})
    process: dict[str, Any] = {"timestep_scale": 1000 / T if s.rescale_timesteps else 1.0}
    if s.timestep_respacing:
        process["timesteps"] = used_timesteps(T, s.timestep_respacing)
        schedule = respaced(schedule, process["timesteps"])
    return schedule, process


def _classes(s: AdmSettings, layout: Layout, nothing: int | None) -> tuple[int, int] | None:
    """The indices of negative and positive; None for a network that is always told its null class."""
    n, where = layout.labels, s.checkpoint.name
    given = None if s.classes is None else (s.classes[0], s.classes[1])
    check_classes(given, nothing, n, where)
    if given is not None or (nothing is not None and n != 3):
        return given
    if n == 2 and nothing is None:
        return 0, 1
    raise UserError(
        f"{where} knows {n:,} classes: give --classes NEGATIVE,POSITIVE with its own indices"
        + (", and --null-class if one of them means none." if not layout.encoder else ".")
    )


def _read(s: AdmSettings, encoder: bool) -> tuple[dict[str, Tensor], Layout]:
    state = read_state(s.checkpoint)
    layout = read_layout(state, s.checkpoint.name)
    if layout.encoder != encoder:
        other = (
            "a classifier: cfdiff models import adm-classifier"
            if layout.encoder
            else "a U-Net: cfdiff models import adm"
        )
        raise UserError(f"{s.checkpoint.name} is {other} reads it.")
    if not encoder and layout.out not in (layout.channels, 2 * layout.channels):
        raise UserError(
            f"{s.checkpoint.name} takes {layout.channels} channels and gives {layout.out}: a diffusion model gives as "
            "many, or twice as many with a learned variance."
        )
    return state, layout


def _config(kind: Any, where: str, **entries: Any) -> Any:
    try:
        return kind(**entries)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{where} cannot be built: its {first['loc'][0]} would be {first['input']!r}.") from error


def _check_heads(where: str, config: Blocks) -> None:
    """The attentions' channels must be whole heads."""
    attending = [w for i, w in enumerate(config.widths) if 2**i in config.attention]
    for channels in (*attending, config.widths[-1]):
        for heads in (config.heads_of(channels), config.heads_of(channels, getattr(config, "heads_up", None))):
            whole = heads > 0 and channels % heads == 0
            if not whole or (config.head_width is not None and channels % config.head_width):
                raise UserError(
                    f"{where} has attention over {channels} channels, which are no whole heads: give another "
                    "--num-heads or --num-head-channels."
                )


def _load(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """All tensors, no more and no fewer; UserError names the first that does not fit."""
    own = net.state_dict()
    for key in sorted({*own, *state}):
        if key not in state:
            raise UserError(f"{where} lacks {key}, which a network of these flags has: give its own flags.")
        if key not in own:
            raise UserError(f"{where} holds {key}, which no network of these flags has: give its own flags.")
        if own[key].shape != state[key].shape:
            raise UserError(
                f"{key} in {where} is {_shape(state[key])}, and with these flags it would be {_shape(own[key])}: give "
                "its own flags."
            )
    net.load_state_dict(state)


@torch.no_grad()
def _try(net: nn.Module, where: str, *told: Tensor | None) -> None:
    """One image through the network: what comes out must be numbers."""
    config: Any = net.config
    nothing = [argument for argument in told if argument is not None]
    out: Tensor = net.float().eval()(torch.zeros(1, config.channels, *config.size), *nothing)
    if not bool(out.isfinite().all()):
        raise UserError(f"The network of {where} gives no finite numbers: the checkpoint is damaged.")


def _data(s: AdmSettings) -> dict[str, Any]:
    if (s.negative is None) != (s.positive is None):
        raise UserError("--negative and --positive belong together: give both names, or none.")
    return {} if s.negative is None else {"classes": [s.negative, s.positive]}


def _made(s: AdmSettings) -> dict[str, Any]:
    """What the card says of where it came from: no path, but a hash."""
    places = {"checkpoint", "out", "force"}
    flags = s.model_dump(mode="json", exclude=places, exclude_defaults=True)
    with open(s.checkpoint, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"imported": {"checkpoint": s.checkpoint.name, "sha256": sha256, **flags}}


def _out(s: AdmSettings) -> Path:
    out = s.out or s.checkpoint.parent / f"{s.checkpoint.stem}.safetensors"
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out.name} is no name of a model file: end it in .safetensors.")
    if out.exists() and not s.force:
        raise UserError(f"{out} is there already: give another --out, or --force to replace it.")
    return out


def _numbers(words: str, name: str) -> tuple[float, ...]:
    try:
        found = [float(word) for word in words.split(",") if word.strip()]
    except ValueError as error:
        raise UserError(f"--{name} {words} is no list of numbers: write them as 32,16,8.") from error
    return tuple(int(number) if number == int(number) else number for number in found)


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
