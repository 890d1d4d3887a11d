"""Small image-text models for tests: a folder as transformers saves one, and the captions of toy images."""

from __future__ import annotations

import json
from pathlib import Path

import torch

CAPTIONS = [
    "a sick cell, dark",
    "a healthy cell, bright",
    "a cell with a spot at the left",
    "a cell, with a large spot",
]


def save_folder(folder: Path, size: int = 32) -> Path:
    """A CLIP model of transformers with weights that mean nothing, and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    words = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    words.train_from_iterator(
        CAPTIONS,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<|startoftext|>", "<|endoftext|>"],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    told = json.loads(words.to_str())["model"]
    tokenizer = CLIPTokenizer(vocab=told["vocab"], merges=[tuple(pair) for pair in told["merges"]])
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**tower, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    torch.manual_seed(0)
    vision = {**tower, "image_size": size, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
