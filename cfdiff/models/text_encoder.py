"""Text as a condition: the hidden states of a frozen CLIP text tower, a token each (Rombach et al. 2022, section 3.3).

Every text is padded to one length, as in Stable Diffusion, so that no mask is needed and "" is the text of nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from cfdiff.errors import UserError, first_line
from cfdiff.models.encoders import NOTHING
from cfdiff.models.text import need

KEPT = 4096
"""Texts whose tokens are kept: captions of one data set repeat, and the tower is frozen."""


class TextConfig(BaseModel):
    """What builds a `TextEncoder`; stored in the model's card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokenizer: str = Field(description="The tokenizer, as its own JSON.")
    length: PositiveInt = Field(ge=3, le=4096, description="Tokens of a text, start and end among them.")
    tower: dict[str, Any] = Field(description="What builds transformers' CLIPTextModel.")
    start: int = Field(description="Number of the token that begins a text.")
    end: int = Field(description="Of that which ends it.")
    pad: int = Field(description="Of that which fills it up.")


class TextEncoder(nn.Module):
    """The text tower of a CLIP model as an `encoders.Encoder`; its weights never change."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        need("transformers")
        from transformers import CLIPTextConfig, CLIPTextModel

        self.config, self.tokenizer = config, _tokenizer(config.tokenizer)
        self.tower = CLIPTextModel(CLIPTextConfig(**config.tower)).eval().requires_grad_(False)
        self.width = int(self.tower.config.hidden_size)
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    @property
    def nothing(self) -> Tensor:
        """See `encoders.Encoder`."""
        return self.codes([""])[0]

    def codes(self, said: Sequence[str]) -> Tensor:
        """Tokens (B, length) of texts; a longer text than fits is cut, and "none" is no text."""
        told = ["" if text.strip() == NOTHING else text for text in said]
        rows = []
        for one in self.tokenizer.encode_batch(told, add_special_tokens=False):
            row = [self.config.start, *one.ids[: self.config.length - 2], self.config.end]
            rows.append(row + [self.config.pad] * (self.config.length - len(row)))
        return torch.tensor(rows, dtype=torch.int64).view(len(rows), self.config.length)

    def train(self, mode: bool = True) -> TextEncoder:
        """Stays in eval mode: frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, codes: Tensor) -> Tensor:
        """See `encoders.Encoder`: each text alone, so that its tokens do not hang on the batch that it was first in."""
        device, found = codes.device, []
        for code in codes.cpu():
            key = code.numpy().tobytes()
            if key not in self._kept:
                ids = code[None].to(device)
                with torch.autocast(device.type, enabled=False):
                    self._kept[key] = self.tower(input_ids=ids).last_hidden_state[0].float()
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            found.append(self._kept[key].to(device))
        return torch.stack(found)

    def __deepcopy__(self, memo: dict[int, Any]) -> TextEncoder:
        """A copy keeps no tokens: its weights may be changed by whoever copies."""
        copy = TextEncoder(self.config)
        copy.load_state_dict(self.state_dict())
        memo[id(self)] = copy
        return copy.to(next(self.parameters()).device)


class TextParts(NamedTuple):
    """What an image-text model reads with: transformers' text tower, its tokenizer as JSON, the most tokens of a
    text, and the numbers of those that begin, end and fill one."""

    tower: Any
    tokenizer: str
    length: int
    start: int
    end: int
    pad: int


SHAPE = (
    *("vocab_size", "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads"),
    *("max_position_embeddings", "hidden_act", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id"),
)
"""What of a tower's config builds it again."""


def text_encoder_of(parts: TextParts, half: bool = True) -> TextEncoder:
    """The encoder that reads as an image-text model does, a copy; with `half` its weights are rounded to float16, as a
    model's file holds them."""
    told = parts.tower.config.to_dict()
    tower = {name: told[name] for name in SHAPE if name in told}
    encoder = TextEncoder(
        TextConfig(
            tokenizer=parts.tokenizer,
            length=parts.length,
            tower=tower,
            start=parts.start,
            end=parts.end,
            pad=parts.pad,
        )
    )
    weights = {
        k: v.half().float() if half and v.is_floating_point() else v for k, v in parts.tower.state_dict().items()
    }
    encoder.tower.load_state_dict(weights)
    return encoder


def build_text(config: Mapping[str, Any]) -> TextEncoder:
    """The entry of registry.ENCODERS."""
    return TextEncoder(TextConfig(**config))


def _tokenizer(json: str) -> Any:
    need("tokenizers")
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_str(json)
    except Exception as error:  # what a library in Rust raises has no class of its own
        raise UserError(f"Its tokenizer cannot be read ({first_line(error)}).") from error
    found.no_padding()
    found.no_truncation()
    return found
