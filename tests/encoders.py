"""Tiny random text encoders of the kinds that families use, saved as the transformers library does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tiny import WORDS
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WIDTH = 24
VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", *WORDS, "<Prompt", "Start>", "user", "assistant"]
SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}


def _clip(width: int) -> Any:
    sizes = {**SIZES, "hidden_size": width, "projection_dim": width, "max_position_embeddings": 77}
    return hf.CLIPTextModelWithProjection(hf.CLIPTextConfig(**sizes))


def _t5(width: int) -> Any:
    sizes = {"vocab_size": len(VOCABULARY), "d_model": width, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    return hf.T5EncoderModel(hf.T5Config(**sizes, feed_forward_proj="gated-gelu"))


ENCODERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES)),
    "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**GROUPED)),
    "gemma2": lambda: hf.Gemma2Model(hf.Gemma2Config(**GROUPED)),
    "qwen3": lambda: hf.Qwen3Model(hf.Qwen3Config(**GROUPED)),
    "clip": lambda: _clip(12),
    "clip 20": lambda: _clip(20),
    "t5": lambda: _t5(64),
}


def random_encoder(kind: str) -> Any:
    """Weights, norms too, that are none of their beginning."""
    torch.manual_seed(0)
    model = ENCODERS[kind]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def write_encoder(kind: str, folder: Path) -> Any:
    """A model and its folder; returns the model."""
    model = random_encoder(kind)
    model.save_pretrained(folder)
    return model


def write_tokenizer(folder: Path, *, begin: bool = True, end: bool = False) -> hf.PreTrainedTokenizerFast:
    """Of a few words, with tokenizer_config.json, as a release has it."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    single = " ".join([*(["<s>"] if begin else []), "$A", *(["</s>"] if end else [])])
    special = [("<s>", 1), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    return fast
