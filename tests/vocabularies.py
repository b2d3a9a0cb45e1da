"""Tokenizers of every kind that text encoders come with, trained here on texts in many scripts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import sentencepiece
from prompts import prompts
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TRAINING = 2000
CLIP = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def texts() -> list[str]:
    return prompts(TRAINING, seed=1)


def clip() -> Tokenizer:
    """CLIP's, of text encoders of Stable Diffusion."""
    end, begin = "<|endoftext|>", "<|startoftext|>"
    made = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=end))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=3000, show_progress=False, end_of_word_suffix="</w>", special_tokens=[begin, end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(texts(), trainer)
    made.post_processor = processors.RobertaProcessing((end, 1), (begin, 0), trim_offsets=False, add_prefix_space=False)
    return made


def byte_level(pattern: str | None, special: str = "<|endoftext|>") -> Tokenizer:
    """GPT-2's, and with a pattern Llama 3's or Qwen's."""
    made = Tokenizer(models.BPE(ignore_merges=pattern is not None))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    made.pre_tokenizer = level if pattern is None else pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), behavior="isolated"), level]
    )  # fmt: skip
    trainer = trainers.BpeTrainer(
        vocab_size=2500, show_progress=False, special_tokens=[special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(texts(), trainer)
    made.post_processor = processors.TemplateProcessing(single=f"{special} $A", special_tokens=[(special, 0)])
    return made


def pairs() -> Tokenizer:
    """SentencePiece's byte pairs, as Llama 2 and Gemma have them: what is not known falls apart into bytes."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=2500, show_progress=False, special_tokens=["<unk>", "<s>", "</s>", *bytes_], limit_alphabet=900
    )
    made.train_from_iterator([word for text in texts() for word in text.split()], trainer)
    made.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return made


def charsmap() -> bytes:
    """SentencePiece's own rules (nmt_nfkc_cf) as it writes them into its models."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c"] * 9), model_writer=model, vocab_size=8, hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf", minloglevel=2,
    )  # fmt: skip
    return bytes(sentencepiece_model_pb2.ModelProto.FromString(model.getvalue()).normalizer_spec.precompiled_charsmap)


def unigram(fallback: bool = False) -> Tokenizer:
    """SentencePiece's unigram, as T5 and its kin have it."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(charsmap()), normalizers.Strip(left=False), normalizers.Replace(Regex(" {2,}"), "▁")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if fallback else []
    trainer = trainers.UnigramTrainer(
        vocab_size=9000, show_progress=False, special_tokens=["<pad>", "</s>", "<unk>", *bytes_], unk_token="<unk>"
    )
    made.train_from_iterator(texts()[:200], trainer)
    made.add_special_tokens([AddedToken("<extra_id_0>", lstrip=True, rstrip=True)])
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.decoder = decoders.Metaspace()
    document = json.loads(made.to_str())
    document["model"]["byte_fallback"] = fallback
    return Tokenizer.from_str(json.dumps(document))


MADE: dict[str, Callable[[], Tokenizer]] = {
    "clip": clip,
    "gpt2": lambda: byte_level(None),
    "llama3": lambda: byte_level(LLAMA3),
    "pairs": pairs,
    "unigram": unigram,
    "unigram with bytes": lambda: unigram(True),
}


@cache
def made(name: str) -> str:
    """The tokenizer.json of one of them."""
    return MADE[name]().to_str()


def bytes_of(normalizer: Any = None, pre_tokenizer: Any = None) -> str:
    """A tokenizer that tells what its rules made of a text: every byte of it is a token, and a piece ends in "|"."""
    words = {f"<0x{byte:02X}>": byte for byte in range(256)}
    model = models.BPE(words, [], byte_fallback=True, end_of_word_suffix="|", unk_token="<0x00>")
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    document = json.loads(tokenizer.to_str())
    document["post_processor"] = json.loads(_marked().to_str())["post_processor"]
    return json.dumps(document)


def _marked() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({"<0x02>": 2}, []))
    tokenizer.post_processor = processors.TemplateProcessing(single="<0x02> $A", special_tokens=[("<0x02>", 2)])
    return tokenizer
