"""CLIP: an image tower of timm and a text tower of transformers, in one space (Radford et al. 2021, section 2).

logits = s <i, t>,      i and t of unit length, s = exp(logit_scale) at most 100
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from cfdiff.models.classifier import Classifier, ClassifierConfig
from cfdiff.models.text import END, PAD, SPECIAL, START, Words, need
from cfdiff.models.text_encoder import TextParts

BEGIN_TEMPERATURE, LARGEST_SCALE = 0.07, 100.0
"""Radford et al. 2021, section 2.5."""


class ImageText(Protocol):
    """What every image-text model can do, whoever made it: of `registry.CLIPS`."""

    @property
    def scale(self) -> Tensor:
        """s, the inverse of the temperature, a scalar."""
        ...

    @property
    def class_texts(self) -> tuple[str, str] | None:
        """What it calls the negative and the positive class; None where it does not say."""
        ...

    def see(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> (B, d) of unit length, differentiable."""
        ...

    def read(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (B, d) of unit length."""
        ...

    @property
    def reading(self) -> TextParts:
        """Its text tower and tokenizer, as a condition encoder is made of them (`text_encoder_of`)."""
        ...


class ClipConfig(BaseModel):
    """What builds a CLIP model; stored in its checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: ClassifierConfig
    features: PositiveInt = Field(le=1_000_000, description="Of the image tower before its last layer.")
    tokenizer: str = Field(description="The tokenizer, as its own JSON.")
    joint: PositiveInt = Field(128, le=16384, description="Numbers of an embedding.")
    width: PositiveInt = Field(128, le=16384, description="Of the text tower.")
    layers: PositiveInt = Field(2, le=128)
    heads: PositiveInt = Field(4, le=1024)
    length: PositiveInt = Field(48, ge=3, le=4096, description="Tokens of a text, start and end among them.")
    texts: tuple[str, str] | None = Field(None, description="What the negative and the positive class are called.")

    @model_validator(mode="after")
    def _fits(self) -> ClipConfig:
        if self.width % self.heads:
            raise ValueError(f"a text tower of width {self.width} cannot be cut into {self.heads} heads")
        return self

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.image.size

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.image.channels


class Clip(nn.Module):
    """Both towers, each with a linear projection into the joint space, and the temperature."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        need("transformers")
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        self.config, self.words = config, Words(config.tokenizer, config.length)
        body = Classifier(config.image)
        timm_model: Any = body.net
        timm_model.reset_classifier(0)
        self.image = body
        self.project = nn.Linear(config.features, config.joint, bias=False)
        self.text = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=self.words.size,
                hidden_size=config.width,
                intermediate_size=4 * config.width,
                projection_dim=config.joint,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=config.length,
                pad_token_id=SPECIAL.index(PAD),
                bos_token_id=SPECIAL.index(START),
                eos_token_id=SPECIAL.index(END),
            )
        )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / BEGIN_TEMPERATURE)))

    @property
    def scale(self) -> Tensor:
        """See `ImageText`."""
        return self.logit_scale.exp().clamp(max=LARGEST_SCALE)

    @property
    def class_texts(self) -> tuple[str, str] | None:
        """See `ImageText`."""
        return self.config.texts

    def see(self, x: Tensor) -> Tensor:
        """See `ImageText`."""
        return F.normalize(self.project(self.image(x)).float(), dim=1)

    def read(self, texts: Sequence[str]) -> Tensor:
        """See `ImageText`."""
        return self.read_tokens(self.words(texts))

    @property
    def reading(self) -> TextParts:
        """See `ImageText`."""
        start, end, pad = map(SPECIAL.index, (START, END, PAD))
        return TextParts(self.text.text_model, self.config.tokenizer, self.config.length, start, end, pad)

    def read_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) int64 -> (B, d) of unit length. Attention is causal, so padding after the end is not seen."""
        found = self.text(input_ids=tokens.to(self.project.weight.device)).text_embeds
        return F.normalize(found.float(), dim=1)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of images (B, C, H, W) and of tokens (B, L), both (B, d), and s: what a training step needs."""
        return self.see(x), self.read_tokens(tokens), self.scale


def build_of_card(card: Any) -> nn.Module:
    """The entry of registry.NETWORKS: that of a `checkpoint.Card`."""
    return Clip(ClipConfig(**{k: v for k, v in card.config.items() if k != "network"}))
