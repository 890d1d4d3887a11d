"""diffusers' UNet2DModel, UNet2DConditionModel and DiTTransformer2DModel, from a local folder, as our denoisers.

Their networks themselves are asked, so diffusers must be there; schedule, parametrisation, sizes and classes are read
from the folder's configs. Their timestep t is our level t + 1, and our level 0 is the clean image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.errors import UserError, first_line
from cfdiff.models.adapters.diffusers_folder import BESIDE, Folder, content_hash, open_folder, read_json, variant_of
from cfdiff.models.adapters.diffusers_schedule import parametrisation_of, schedule_of
from cfdiff.models.adapters.diffusers_text import check_text, load_text
from cfdiff.models.adapters.told import Told, check_classes
from cfdiff.models.checkpoint import Card, Model
from cfdiff.models.encoders import NOTHING
from cfdiff.models.prompted import Prompted
from cfdiff.models.text import two_texts
from cfdiff.registry import SPACES

EXTRA = "cfdiff[diffusers]"


@dataclass(frozen=True)
class Shape:
    """What a network sees.

    Attributes:
        size: height and width.
        channels: of its input.
        tokens: width of the text embeddings that it reads, 0 if none of its blocks does; None if it takes none.
    """

    size: tuple[int, int]
    channels: int
    tokens: int | None = None


class Network(nn.Module):
    """A network of diffusers as ours are called: (x (B, C, H, W), t (B,)[, condition]) -> (B, C or 2C, H, W)."""

    def __init__(self, net: nn.Module, config: Shape, told: Told | None) -> None:
        super().__init__()
        self.net, self.config, self.told = net, config, told

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        tokens: Tensor | None = None,
        control: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> Tensor:
        """The prediction, with or without its variance; `condition` (B,) int64: 0, 1, or -1 for nothing; `tokens`
        (B, L, d) of a text, zeros where there is none; `control` as `diffusers_control.Branch` gives it."""
        options: dict[str, Any] = {}
        if self.told is not None:
            options["class_labels"] = self.told.labels(condition, x)
        width = self.config.tokens
        if width is not None:
            nothing = x.new_zeros(len(x), 1, width) if width else None
            options["encoder_hidden_states"] = nothing if tokens is None else tokens
        if control is not None:
            options |= control(options)
        out: Tensor = self.net(x, t, **options, return_dict=False)[0]
        return out


@dataclass(frozen=True)
class Kind:
    """One of diffusers' classes.

    Attributes:
        told: its classes, as its config and the user's file beside it say; None where it has none.
        refuse: UserError for what its config asks for and cfdiff does not give.
    """

    told: Callable[[Folder], Told | None]
    refuse: Callable[[Folder], None]


def _unet_told(folder: Folder) -> Told | None:
    n, classes, nothing = folder.config.get("num_class_embeds"), folder.beside.classes, folder.beside.nothing
    if n is None:
        return None
    check_classes(classes, nothing, int(n), folder.path.name)
    if classes is None and nothing is None and n == 2:
        classes = (0, 1)
    if classes is None and nothing is None:
        raise UserError(
            f"{folder.path.name} knows {n} classes: write classes = [NEGATIVE, POSITIVE] into {BESIDE} in that folder, "
            "with its own indices, and nothing = INDEX if one of them means no class."
        )
    return Told(classes, nothing, int(n))


def _dit_told(folder: Folder) -> Told | None:
    """A DiT has one class more than its config says, the last, which it was trained on with the class left out."""
    n, classes = int(folder.config.get("num_embeds_ada_norm") or 1000), folder.beside.classes
    check_classes(classes, None, n, folder.path.name)
    return Told((0, 1) if classes is None and n == 2 else classes, n, n)


def _refuse_unet(folder: Folder) -> None:
    config, where = folder.config, folder.path.name
    if config.get("class_embed_type") is not None:
        raise UserError(
            f"{where} is told classes as {config['class_embed_type']!r}: cfdiff knows class_embed_type null only."
        )
    if config.get("time_embedding_type") == "fourier":
        raise UserError(f"{where} counts noise as a score-based model does (fourier): cfdiff reads DDPM's timesteps.")


def _refuse_condition(folder: Folder) -> None:
    _refuse_unet(folder)
    config, where = folder.config, folder.path.name
    for key in ("addition_embed_type", "encoder_hid_dim_type", "encoder_hid_dim", "time_cond_proj_dim"):
        if config.get(key) is not None:
            raise UserError(f"{where} wants more than an image, a timestep and a class ({key}): cfdiff gives no more.")
    if _wants_tokens(config) and folder.beside.tokens != "zeros" and not check_text(folder):
        raise UserError(
            f"{where} reads a text, and nothing is there that encodes one: give the folder of its pipeline, with "
            f"text_encoder/ and tokenizer/, or, if it was trained with zeros in its place, write "
            f'tokens = "zeros" into {BESIDE} in that folder.'
        )


def _wants_tokens(config: Mapping[str, Any]) -> bool:
    """Whether any block of a UNet2DConditionModel reads `encoder_hidden_states`; by diffusers' defaults all do."""
    blocks = [
        *config.get("down_block_types", ["CrossAttnDownBlock2D"]),
        *config.get("up_block_types", ["CrossAttnUpBlock2D"]),
        config.get("mid_block_type", "UNetMidBlock2DCrossAttn"),
    ]
    return any("CrossAttn" in str(block) for block in blocks)


KINDS = {
    "UNet2DModel": Kind(_unet_told, _refuse_unet),
    "UNet2DConditionModel": Kind(_unet_told, _refuse_condition),
    "DiTTransformer2DModel": Kind(_dit_told, lambda folder: None),
}


class DiffusersDenoisers:
    """The entry of registry.DENOISERS for folders."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether it is a folder; ours are files."""
        return path.is_dir()

    @staticmethod
    def card(path: Path) -> Card:
        """See `card_of`."""
        return card_of(open_folder(path))

    @staticmethod
    def load(path: Path, device: str | torch.device) -> Model:
        """The network of the folder in float32, in eval mode.

        Raises:
            UserError: diffusers is missing, or the folder is not one of a model that cfdiff can use.
        """
        folder = open_folder(path)
        card = card_of(folder)  # before diffusers is asked for: says what is wrong with the folder without it
        if folder.vae is not None and "latent" not in SPACES:
            raise UserError(
                f"{path.name} is a latent diffusion model, and this cfdiff has no latent space to run it in: update "
                "cfdiff, or give a model of pixels."
            )
        told = told_of(folder)
        loaded = load_network(_class_name(folder), folder.network, folder.weights, folder.path.name)
        net: nn.Module = Network(loaded, shape_of(folder), told)
        if card.condition == "tokens":
            texts = folder.beside.texts
            told_texts = (NOTHING, NOTHING) if texts is None else two_texts(*texts, f"{BESIDE} in {folder.path.name!r}")
            net = Prompted(net, load_text(folder), told_texts)
        return Model(net.float().eval().requires_grad_(False).to(device), card, folder.sha256, path.name, path)


def card_of(folder: Folder) -> Card:
    """What the configs of a folder say, as a card; needs no diffusers.

    Raises:
        UserError: a class, a scheduler or an entry that cfdiff cannot use.
    """
    name, where = _class_name(folder), folder.path.name
    KINDS[name].refuse(folder)
    reads = check_text(folder) and name == "UNet2DConditionModel"
    if folder.reads_text and not reads and folder.beside.tokens != "zeros":
        raise UserError(
            f"{where} draws what a text says, and cfdiff tells that a UNet2DConditionModel alone: take one."
        )
    told, shape = told_of(folder), shape_of(folder)
    latents = latents_of(folder)
    return Card(
        "diffusion",
        {**folder.config, "arch": name},
        schedule_of(folder.scheduler, where).config,
        {},
        {},
        version=str(folder.config.get("_diffusers_version", "")),
        parametrisation=parametrisation_of(folder.scheduler, where),
        learned_sigma=_out_channels(folder) == 2 * shape.channels,
        space=None if latents is None else latents.space,
        image=None if latents is None else latents.image,
        condition="tokens" if reads else "class" if told is not None and told.conditional else None,
        told_nothing=told is None or told.nothing is not None,
    )


def told_of(folder: Folder) -> Told | None:
    """The classes of the network of a folder; None where it has none. UserError where ours among them are not known."""
    return KINDS[_class_name(folder)].told(folder)


@dataclass(frozen=True)
class Latents:
    """What a pipeline's autoencoder says of itself.

    Attributes:
        image: (H, W, C) of the images.
        sha256: of its config.json and its weights, in this order, by which a latent space finds it in vae/.
        scaling, shift: z = (E(x) - shift) scaling.
    """

    image: list[int]
    sha256: str
    scaling: float
    shift: float

    @property
    def space(self) -> dict[str, Any]:
        """What the card says of the space."""
        return {"name": "latent", "autoencoder": self.sha256}


def latents_of(folder: Folder) -> Latents | None:
    """The autoencoder of a pipeline; None where it runs on pixels.

    Raises:
        UserError: it is not all there, or not one for this network.
    """
    if folder.vae is None:
        return None
    config, shape, where = read_json(folder.vae / "config.json", folder.path), shape_of(folder), folder.path.name
    try:
        widths = config[
            "encoder_block_out_channels" if "encoder_block_out_channels" in config else "block_out_channels"
        ]
        factor, channels = 2 ** (len(widths) - 1), int(config["latent_channels"])
        scaling, shift = float(config["scaling_factor"]), float(config.get("shift_factor") or 0.0)
        image = [shape.size[0] * factor, shape.size[1] * factor, int(config["out_channels"])]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"The autoencoder of {where} does not say its block_out_channels, latent_channels and scaling_factor: give "
            "that of an AutoencoderKL or AutoencoderTiny."
        ) from error
    if channels != shape.channels:
        raise UserError(
            f"The network of {where} takes {shape.channels} channels and its autoencoder makes {channels}: give those "
            "that belong together."
        )
    return Latents(image, content_hash(folder.vae, folder.path), scaling, shift)


def _class_name(folder: Folder) -> str:
    name = str(folder.config.get("_class_name"))
    if name == "Transformer2DModel" and folder.config.get("norm_type") == "ada_norm_zero":
        name = "DiTTransformer2DModel"  # as DiT was saved before it had a class of its own
    if name not in KINDS:
        raise UserError(f"{folder.path.name} holds a {name}, which cfdiff cannot use: it takes {', '.join(KINDS)}.")
    return name


def shape_of(folder: Folder) -> Shape:
    """What the network of a folder sees; UserError where its config.json does not say."""
    config, where = folder.config, folder.path.name
    default = 32 if _class_name(folder) == "DiTTransformer2DModel" else None
    size = config.get("sample_size", default)
    if isinstance(size, int):
        size = [size, size]
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(
            f'The config.json of {where} does not say how large its images are: write "sample_size": [HEIGHT, WIDTH] '
            "into it."
        )
    channels = int(config.get("in_channels", 3 if _class_name(folder) == "UNet2DModel" else 4))
    if _out_channels(folder) not in (channels, 2 * channels):
        raise UserError(
            f"The network of {where} takes {channels} channels and gives {_out_channels(folder)}: a diffusion model "
            "gives as many, or twice as many with a learned variance."
        )
    tokens = None
    if _class_name(folder) == "UNet2DConditionModel":
        width = config.get("cross_attention_dim", 1280)
        tokens = int(width[0] if isinstance(width, list) else width) if _wants_tokens(config) else 0
    return Shape((size[0], size[1]), channels, tokens)


def _out_channels(folder: Folder) -> int:
    told = folder.config.get("out_channels")
    if told is None:  # a DiT's are as many as it takes; those of the others have a default
        told = {"UNet2DModel": 3, "UNet2DConditionModel": 4}.get(
            _class_name(folder), folder.config.get("in_channels", 4)
        )
    return int(told)


def load_network(name: str, network: Path, files: Sequence[Path], where: str) -> nn.Module:
    """A network of one of diffusers' classes; `where` is what messages call its folder, `files` are its weights.

    Raises:
        UserError: diffusers cannot build it, or the weights are not all of it.
    """
    kind = _class(name)
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # what it warns of is an error here
    try:
        net, found = kind.from_pretrained(
            network,
            use_safetensors=True,
            local_files_only=True,
            variant=variant_of(files),
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:  # diffusers passes on whatever torch, safetensors and its own checks raise
        said = first_line(error).replace(str(network), where)
        raise UserError(
            f"diffusers cannot load {where} ({said}): its weights and its config.json do not belong together, or "
            f"{files[0].name} is damaged; copy the folder again."
        ) from error
    finally:
        logging.set_verbosity(level)
    wrong = [*found["missing_keys"], *found["unexpected_keys"], *map(str, found["mismatched_keys"])]
    if wrong:
        raise UserError(
            f"The weights of {where} are not those of its config.json ({wrong[0]} and {len(wrong) - 1} more): copy the "
            "folder again."
        )
    return net


def _class(name: str) -> Any:
    """A class of diffusers; UserError where that is not installed."""
    try:
        import diffusers
    except ImportError as error:
        raise UserError(f"A folder of diffusers needs the package diffusers: pip install '{EXTRA}'.") from error
    return getattr(diffusers, name)
