"""Local folders of CLIP models as transformers saves them: config, weights as safetensors, tokenizer.

Which two texts the classes are called stands in a `cfdiff.toml` there, if anywhere: the folder is then a classifier.

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
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from cfdiff.errors import UserError, first_line
from cfdiff.files import parse_json
from cfdiff.models.checkpoint import Card, Model
from cfdiff.models.description import IN_A_FOLDER, read_description
from cfdiff.models.given import ModelFile
from cfdiff.models.image_text import as_classifier_of_texts
from cfdiff.models.text import need, two_texts
from cfdiff.models.text_encoder import TextParts
from cfdiff.roles import DESCRIBED

CONFIG, WEIGHTS, PREPARED = "config.json", "model.safetensors", "preprocessor_config.json"
EXAMPLE = 'texts = ["a healthy cell", "a sick cell"]'
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of OpenAI's CLIP, which stand where a folder does not say."""


class Beside(BaseModel):
    """What a user says of a folder in its `cfdiff.toml`.

    Attributes:
        texts: what the negative and the positive class are called.
        names: of the negative and the positive class, which are then held against those of the data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: tuple[str, str] | None = None
    names: tuple[str, str] | None = None

    @property
    def sha256(self) -> str:
        """Of all of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def read_beside(folder: Path) -> Beside:
    """What stands beside a CLIP model; nothing where no such file is.

    Raises:
        UserError: it cannot be read, says something else, or calls both classes the same.
    """
    told = read_description(folder)
    try:
        found = Beside(**told)
    except (ValidationError, TypeError) as error:
        raise UserError(
            f'{IN_A_FOLDER} in {folder.name!r}, a CLIP model, may say {EXAMPLE} and names = ["NEGATIVE", "POSITIVE"], '
            "and cannot be read as that: mend it."
        ) from error
    if found.texts is None:
        return found
    texts = two_texts(*found.texts, f"{IN_A_FOLDER} in {folder.name!r}")
    return found.model_copy(update={"texts": texts})


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

    def __init__(
        self,
        net: Any,
        tokenizer: Any,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        texts: tuple[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.tokenizer, self.texts = net, tokenizer, texts
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
        """As it is told beside it; it knows no classes itself."""
        return self.texts

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
        beside = read_beside(path)
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
        clip = FolderClip(net, tokenizer, int(net.config.vision_config.image_size), mean, std, beside.texts)
        known = {} if beside.names is None else {"classes": list(beside.names)}
        card = Card("clip", {"format": "transformers", "arch": "CLIPModel"}, None, known, {})
        sha256 = _sha256(path) if beside == Beside() else f"{_sha256(path)}{DESCRIBED}{beside.sha256}"
        return Model(clip.eval().requires_grad_(False).to(device), card, sha256, path.name)


class ClipClassifiers:
    """The entry of registry.CLASSIFIERS: such a folder, where two texts are said beside it."""

    @staticmethod
    def recognises(file: ModelFile) -> bool:
        """Whether it is such a folder; one whose config cannot be read is for others to refuse."""
        try:
            return isinstance(file, Path) and ClipFolders.recognises(file)
        except UserError:
            return False

    @staticmethod
    def known(file: ModelFile) -> dict[str, Any]:
        """It says nothing of classes."""
        return {}

    @staticmethod
    def advice(file: ModelFile) -> str:
        """What makes a classifier of it, as a sentence."""
        return (
            f"{file.name!r} is a CLIP model, and a classifier only with two texts that say what the classes are called:"
            f" write {EXAMPLE} into {IN_A_FOLDER} in that folder."
        )

    @staticmethod
    def load(file: ModelFile, device: torch.device, steers: bool) -> Model:
        """Which of the two texts an image is nearer to (`image_text.TextClassifier`)."""
        assert isinstance(file, Path)
        if read_beside(file).texts is None:
            raise UserError(ClipClassifiers.advice(file))
        return as_classifier_of_texts(ClipFolders.load(file, device), described=True)


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
