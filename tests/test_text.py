"""The tokenizer without Python makes the ids of Hugging Face's `tokenizers`, of any text, and reads any file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prompts import prompts
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Reference
from vocabularies import MADE, bytes_of, made

from flagdit.cpp_ext import Tokenizer
from flagdit.engine import BundleError
from flagdit.engine.bundle.reader import DEMO

FILE = "tokenizer.json"
N, P = normalizers, pre_tokenizers


def demo() -> str:
    document = json.loads((DEMO / FILE).read_text())
    return json.dumps(document | {"padding": None, "truncation": None})


def differences(content: str, texts: list[str]) -> list[str]:
    """The texts that the two make different tokens of."""
    ours, theirs = Tokenizer.read(FILE, content.encode()), Reference.from_str(content)
    return [text for text in texts if ours.encode(text.encode()) != theirs.encode(text).ids]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", *MADE])
def test_ten_thousand_prompts(name: str) -> None:
    assert differences(demo() if name == "demo" else made(name), prompts(10_000)) == []


@pytest.mark.parametrize("name", ["demo", *MADE])
def test_prompts(name: str) -> None:
    texts = [
        "",
        " ",
        "\0",
        "a red apple",
        "x" * 5000,
        " \n" * 500,
        "[MASK][MASK] <mask>  <extra_id_0>",
        *prompts(300, seed=2),
    ]
    assert differences(demo() if name == "demo" else made(name), texts) == []


RULES: dict[str, tuple[Any, Any]] = {
    "BERT": (N.BertNormalizer(), P.BertPreTokenizer()),
    "BERT with case": (N.BertNormalizer(lowercase=False), None),
    "lower case": (N.Lowercase(), P.Whitespace()),
    "NFD": (N.NFD(), P.Punctuation()),
    "NFC": (N.NFC(), P.Digits(True)),
    "NFKD": (N.NFKD(), P.Digits()),
    "NFKC": (N.NFKC(), P.WhitespaceSplit()),
    "accents": (N.Sequence([N.NFD(), N.StripAccents()]), None),
    "SentencePiece": (N.Nmt(), P.Metaspace()),
    "bytes": (N.ByteLevel(), P.CharDelimiterSplit("a")),
    "letters": (None, P.Split(Regex(r"\p{L}+"), "isolated")),
    "numbers": (None, P.Split(Regex(r"\p{N}"), "merged_with_previous")),
    "marks": (None, P.Split(Regex(r"[\p{M}\s]"), "removed")),
    "signs": (None, P.Split(Regex(r"\p{P}"), "merged_with_next")),
    "GPT-2": (None, P.ByteLevel(add_prefix_space=True)),
    "either case": (None, P.Split(Regex("(?i:s|k|a)"), "contiguous")),
    "what is between": (None, P.Split(Regex(r"[^\s\p{L}]+"), "removed", invert=True)),
    "pieces": (None, P.FixedLength(7)),
    "replaced": (N.Sequence([N.Replace(Regex(r"\s+"), "__"), N.Replace("a", ""), N.Prepend("a"), N.Strip()]), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_every_character(name: str) -> None:
    """What the rules of tokenizers make of all of Unicode, and where they cut it."""
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = ["a".join(every[i : i + 500]) for i in range(0, len(every), 500)]
    texts += [f"a{c}a" for c in every[:0x3400]]
    assert differences(bytes_of(*RULES[name]), texts) == []


@pytest.mark.parametrize("name", RULES)
def test_rules(name: str) -> None:
    assert differences(bytes_of(*RULES[name]), prompts(200, seed=3)) == []


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", r"\w+", "a{2", "[[a]]", r"(?<=a)b", r"(a)\1", "a**", "[a-", "(", r"\p{Greek}", "(?:a|b)*"]
)
def test_patterns_that_are_not_known(pattern: str) -> None:
    document = json.loads(bytes_of())
    document["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    with pytest.raises(BundleError, match=r"is no tokenizer \(the pattern '.*' is none that is known here\)"):
        Tokenizer.read(FILE, json.dumps(document).encode())


def test_a_pattern_that_searches_without_end() -> None:
    document = json.loads(bytes_of())
    document["pre_tokenizer"] = {
        "type": "Split", "pattern": {"Regex": "a*a*a*a*a*a*b"}, "behavior": "Isolated", "invert": False
    }  # fmt: skip
    tokenizer = Tokenizer.read(FILE, json.dumps(document).encode())
    with pytest.raises(BundleError, match="its pattern searches without end"):
        tokenizer.encode(b"a" * 4000)


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xe2\x82"])
def test_what_is_no_text(text: bytes) -> None:
    with pytest.raises(ValueError, match="no Unicode text; write it in UTF-8"):
        Tokenizer.read(FILE, demo().encode()).encode(text)


WORDS = {word: i for i, word in enumerate(["<0x00>", "[UNK]", "a", "ab", "abab", "##ab", "##a"])}
LARGE: dict[str, dict[str, Any]] = {
    "many added words": {"added_tokens": [
        {"id": 9 + i, "content": f"{i:x}~", "special": False, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": bool(i % 2)} for i in range(150_000)]},
    "a long pattern": {"normalizer": {"type": "Replace", "pattern": {"String": "ab" * 500_000}, "content": "a"}},
    "one long word": {"model": {
        "type": "WordPiece", "vocab": {**WORDS, "a" * 100_000: 7, "##" + "a" * 100_000: 8}, "unk_token": "[UNK]",
        "continuing_subword_prefix": "##", "max_input_chars_per_word": 10**9}},
    "long words": {"model": {
        "type": "Unigram", "vocab": [[word, -1.0] for word in WORDS] + [["a" * i, -2.0] for i in range(5, 400)],
        "unk_id": 1, "byte_fallback": False}},
}  # fmt: skip


@pytest.mark.parametrize("case", LARGE)
def test_large_files_and_texts_take_no_more_than_they_should(case: str) -> None:
    """No rule takes a time that grows with words times text; with one that does, this would take hours."""
    document = json.loads(bytes_of()) | LARGE[case]
    tokenizer = Tokenizer.read(FILE, json.dumps(document).encode())
    text = ("ab" * 20_000 + "a" * 8_000)[: tokenizer.longest]
    assert tokenizer.encode(text.encode())
