"""Tiny models to test with: random weights, so they say nothing about quality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from flagdit.engine import Pipeline, RequestError
from flagdit.export import FlagDiT, FlagDiTConfig

WORDS = [
    "a",
    "an",
    "the",
    "red",
    "green",
    "blue",
    "apple",
    "book",
    "star",
    "on",
    "left",
    "of",
    "background",
    "flat",
    "modern",
]
TINY = FlagDiTConfig(
    dim=48, n_layers=3, n_heads=4, patch_size=4, in_channels=3, learn_sigma=False, cap_feat_dim=16, multiple_of=32
)


def random_flag_dit(config: FlagDiTConfig, seed: int = 0) -> FlagDiT:
    """A model whose gates and modulations are open, as after training, so that every path carries signal."""
    torch.manual_seed(seed)
    model = FlagDiT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def write_text_encoder(directory: Path, width: int = 16) -> Path:
    """A one-layer BERT of a dozen words, in Hugging Face's layout."""
    torch.manual_seed(1)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    size = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    encoder = BertModel(BertConfig(vocab_size=len(words), hidden_size=width, **size))
    encoder.save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def assert_refused(pipeline: Pipeline, arguments: dict[str, Any], message: str) -> None:
    """A request ends in one line that holds `message`."""
    with pytest.raises(RequestError) as error:
        pipeline(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
