"""Files that only look like a tokenizer: read or refused, and so is what they make of a text."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from fuzz import CASES, PARTS, rng_of

from flagdit.cpp_ext import Tokenizer

TEXTS = [
    "",
    "a r\u00e9d apple\u0301 '[CLS]",
    "\u6771\u4eac\u30bf\u30ef\u30fc \ufdfa \U0001f1eb\U0001f1f7 I'll 3.14",
    " " * 99,
]
TOKEN = {"single_word": True, "lstrip": True, "rstrip": True, "normalized": True, "special": False}
WORDS = {word: i for i, word in enumerate(["[UNK]", "[CLS]", "a", "##p", "ap", "\u2581", "\u2581a", "<0x61>", "p"])}
ADDED = [{"id": 1, "content": "[CLS]", **TOKEN}, {"id": 77, "content": " appl", **TOKEN, "normalized": False}]
SPECIAL = {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}}
SINGLE = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
POST = {"type": "TemplateProcessing", "single": SINGLE, "pair": [], "special_tokens": SPECIAL}
MODELS: list[dict[str, Any]] = [
    {"type": "WordPiece", "vocab": WORDS, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
     "max_input_chars_per_word": 100},
    {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]"},
    {"type": "BPE", "vocab": WORDS, "merges": [["a", "p"], "\u2581 a"], "unk_token": "[UNK]", "byte_fallback": True,
     "fuse_unk": True, "ignore_merges": False, "end_of_word_suffix": None, "dropout": None},
    {"type": "Unigram", "vocab": [[word, -float(i)] for word, i in WORDS.items()], "unk_id": 0, "byte_fallback": True},
]  # fmt: skip
CHARSMAP = "CAAAAAABAQBBAQAAYgA="
NORMALIZERS: list[dict[str, Any]] = [
    *[{"type": kind} for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel")],
    {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "Replace", "pattern": {"Regex": " {2,}|(?i:'S)"}, "content": "\u2581"},
    {"type": "Prepend", "prepend": "\u2581"},
    {"type": "Precompiled", "precompiled_charsmap": CHARSMAP},
]
CUTS: list[dict[str, Any]] = [
    *[{"type": kind} for kind in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")],
    {
        "type": "Split",
        "pattern": {"Regex": r"[^\r\n\p{L}]?\p{L}+|\s+(?!\S)|."},
        "behavior": "MergedWithNext",
        "invert": False,
    },
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True},
    {"type": "Digits", "individual_digits": True},
    {"type": "Punctuation", "behavior": "Contiguous"},
    {"type": "FixedLength", "length": 3},
    {"type": "CharDelimiterSplit", "delimiter": "a"},
]


def document(rng: random.Random) -> bytes:
    parts = {
        "added_tokens": rng.choice((ADDED, [], None)),
        "normalizer": {"type": "Sequence", "normalizers": rng.sample(NORMALIZERS, 2)},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": rng.sample(CUTS, 2)},
        "post_processor": POST,
        "model": rng.choice(MODELS),
    }
    return json.dumps(parts, ensure_ascii=rng.random() < 0.5).encode()


def damage(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    how = rng.randrange(4)
    if how == 0:
        content[at] = rng.randrange(256)
    elif how == 1:
        del content[at : at + rng.choice((1, 2, 50))]
    elif how == 2:
        content[at:at] = rng.choice(
            (b"0", b"9", b"-", b"e9", b'"', b"}", b"]", b",", b"null", b"[]", b"{}", b"\\u0000")
        )
    elif digits := [i for i, byte in enumerate(content) if 0x30 <= byte < 0x3A]:
        content[rng.choice(digits)] = rng.choice(b"0123456789")


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_tokenizers(part: int) -> None:
    rng, read = rng_of("tokenizers", part), 0
    for _ in range(2 * CASES // PARTS):
        content = bytearray(document(rng))
        for _ in range(rng.randrange(3)):
            damage(content, rng)
        try:
            tokenizer = Tokenizer.read("tokenizer.json", bytes(content))
            read += 1
            for text in TEXTS:
                assert all(0 <= token < 2**32 for token in tokenizer.encode(text.encode()))
        except Exception as error:  # of whatever class the core was told of
            assert "tokenizer.json: " in str(error) and "\n" not in str(error)
    assert read > CASES // PARTS // 2
