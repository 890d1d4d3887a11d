"""Local folders of CLIP models as transformers saves them: config, weights as safetensors, tokenizer.

How images are prepared stands in preprocessor_config.json: mean and standard deviation. Gray images become three equal
channels, and the size is reached by resizing alone. Nothing is fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.errors import UserError, first_line
from cfdiff.files import parse_json
from cfdiff.models.checkpoint import Card, Model
from cfdiff.models.text import need
from cfdiff.models.text_encoder import TextParts

CONFIG, WEIGHTS, PREPARED = "config.json", "model.safetensors", "preprocessor_config.json"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of OpenAI's CLIP, which stand where a folder does not say."""


@dataclass(frozen=True)
class FolderConfig:
    """What the rest of cfdiff asks of a network's config."""

    arch: str
    size: tuple[int, int]
    channels: int = 3


class FolderClip(nn.Module):
    """A CLIP model of transformers as a models.clip.ImageText."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: Any, tokenizer: Any, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net, self.tokenizer = net, tokenizer
        self.config = FolderConfig("CLIPModel", (size, size))
        self.length = int(net.config.text_config.max_position_embeddings)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)

    @property
    def scale(self) -> Tensor:
        """See `ImageText`."""
        found: Tensor = self.net.logit_scale.exp()
        return found

    @property
    def class_texts(self) -> tuple[str, str] | None:
        """It knows no classes."""
        return None

    def takes(self, images: tuple[int, int, int]) -> tuple[int, int, int]:
        """Any size, gray or RGB."""
        height, width, channels = images
        return images if channels in (1, 3) else (height, width, 3)

    def see(self, x: Tensor) -> Tensor:
        """See `ImageText`."""
        x = ((x.float() + 1) / 2).expand(-1, 3, -1, -1)
        if x.shape[2:] != self.config.size:
            x = F.interpolate(x, size=self.config.size, mode="bicubic", align_corners=False, antialias=True)
        found = self.net.vision_model(pixel_values=(x - self.mean) / self.std).pooler_output
        return F.normalize(self.net.visual_projection(found).float(), dim=1)

    def read(self, texts: Sequence[str]) -> Tensor:
        """See `ImageText`."""
        told = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        device = self.mean.device
        found = self.net.text_model(
            input_ids=told["input_ids"].to(device), attention_mask=told["attention_mask"].to(device)
        ).pooler_output
        return F.normalize(self.net.text_projection(found).float(), dim=1)

    @property
    def reading(self) -> TextParts:
        """See `ImageText`."""
        words = self.tokenizer
        return TextParts(
            self.net.text_model,
            words.backend_tokenizer.to_str(),
            self.length,
            words.bos_token_id,
            words.eos_token_id,
            words.pad_token_id,
        )


class ClipFolders:
    """The entry of registry.CLIPS."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether it is a folder whose config.json names CLIP."""
        if not (path / CONFIG).is_file():
            return False
        return str(_read(path / CONFIG, path).get("model_type")) == "clip"

    @staticmethod
    def load(path: Path, device: str | torch.device) -> Model:
        """The model, in float32 and eval mode.

        Raises:
            UserError: a file is missing or damaged, or transformers is not there.
        """
        need("transformers")
        from transformers import CLIPModel, CLIPTokenizer
        from transformers.utils import logging

        if not (path / WEIGHTS).is_file():
            raise UserError(
                f"The folder {path.name!r} holds no {WEIGHTS}: save the model with save_pretrained, which writes "
                "safetensors; pickles can run any code and are refused."
            )
        prepared = _read(path / PREPARED, path) if (path / PREPARED).is_file() else {}
        quiet = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            net, said = CLIPModel.from_pretrained(
                path, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
            tokenizer = CLIPTokenizer.from_pretrained(path, local_files_only=True)
        except Exception as error:  # transformers raises what it likes
            raise UserError(
                f"The folder {path.name!r} is no whole CLIP model of transformers ({first_line(error)}): it needs "
                f"{CONFIG}, {WEIGHTS} and a tokenizer."
            ) from error
        finally:
            logging.set_verbosity(quiet)
            logging.enable_progress_bar()
        if lacking := said["missing_keys"]:
            raise UserError(
                f"{WEIGHTS} in {path.name!r} lacks {len(lacking)} tensors of a CLIP model (the first is "
                f"{sorted(lacking)[0]!r}): give the folder of the whole model, both towers."
            )
        if len(tokenizer) > net.config.text_config.vocab_size or len(tokenizer) < 4:
            raise UserError(
                f"The folder {path.name!r} holds no tokenizer of its model ({len(tokenizer):,} tokens for "
                f"{net.config.text_config.vocab_size:,} embeddings): copy the tokenizer's files beside the weights."
            )
        mean, std = prepared.get("image_mean", MEAN), prepared.get("image_std", STD)
        clip = FolderClip(net, tokenizer, int(net.config.vision_config.image_size), mean, std)
        card = Card("clip", {"format": "transformers", "arch": "CLIPModel"}, None, {}, {})
        sha256 = _sha256(path)
        return Model(clip.eval().requires_grad_(False).to(device), card, sha256, path.name)


def _sha256(folder: Path) -> str:
    """Of the weights, and of everything beside them that says what becomes of a text and an image."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.name == WEIGHTS or path.suffix in (".json", ".txt")):
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def _read(file: Path, folder: Path) -> dict[str, Any]:
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file.name} in {folder.name!r} is no readable JSON: copy the folder again.") from error
    return found if isinstance(found, dict) else {}
