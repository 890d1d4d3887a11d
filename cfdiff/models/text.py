"""Words to tokens: byte-pair encoding learned from captions (Sennrich et al. 2016), as `tokenizers` does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from cfdiff.errors import UserError, first_line

PAD, START, UNKNOWN, END = "<pad>", "<start>", "<unknown>", "<end>"
SPECIAL = (PAD, START, UNKNOWN, END)
"""Their numbers are their places. transformers takes the end as the highest number of a text where it is number 2."""
EXTRA = "cfdiff[clip]"


def need(package: str) -> None:
    """Raise UserError where transformers or tokenizers is not there."""
    import importlib

    try:
        importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"Image-text models need the package {package}: pip install '{EXTRA}'.") from error


def two_texts(negative: str, positive: str, where: str) -> tuple[str, str]:
    """What the two classes are called, without blanks around them; `where` says so, for a message.

    Raises:
        UserError: one of them is empty, or they are one text, by which no image could be told from another.
    """
    texts = negative.strip(), positive.strip()
    if not all(texts):
        raise UserError(f"{where} calls a class by an empty text: say in words what its images show.")
    if len({" ".join(text.casefold().split()) for text in texts}) < 2:
        raise UserError(f"{where} calls both classes {texts[0]!r}, which tells none apart: give two texts that differ.")
    return texts


def learn_bpe(captions: Iterable[str], size: int) -> str:
    """A tokenizer of at most `size` tokens, learned from captions, as its own JSON; case and outer blanks are dropped.

    The bytes are among its tokens, so no text is unknown to it.
    """
    need("tokenizers")
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Strip(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(captions), trainer)
    return str(tokenizer.to_str())


class Words:
    """A tokenizer of ours: texts to numbers of tokens."""

    def __init__(self, json: str, length: int) -> None:
        """`json` is what `learn_bpe` gives, `length` the most tokens of a text, start and end among them.

        Raises:
            UserError: it is no tokenizer of ours.
        """
        need("tokenizers")
        from tokenizers import Tokenizer

        try:
            self.tokenizer: Any = Tokenizer.from_str(json)
        except Exception as error:  # what a library in Rust raises has no class of its own
            raise UserError(f"Its tokenizer cannot be read ({first_line(error)}).") from error
        if [self.tokenizer.token_to_id(word) for word in SPECIAL] != list(range(len(SPECIAL))):
            raise UserError("Its tokenizer is none of cfdiff's own.")
        self.length = length

    @property
    def size(self) -> int:
        """How many tokens it has."""
        return int(self.tokenizer.get_vocab_size())

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(B, L) int64: start, the tokens, end, then padding to the longest of them; a longer text than fits is cut."""
        start, end = SPECIAL.index(START), SPECIAL.index(END)
        rows = [[start, *one.ids[: self.length - 2], end] for one in self.tokenizer.encode_batch(list(texts))]
        longest = max(map(len, rows))
        return torch.tensor([row + [SPECIAL.index(PAD)] * (longest - len(row)) for row in rows])
