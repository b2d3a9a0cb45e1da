"""Tokenizers that somebody made up: bounded before they are built."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from flagdit.cpp_ext import Tokenizer as Core
from flagdit.engine import BundleError
from flagdit.engine.bundle.reader import DEMO

FILE = "tokenizer.json"


@pytest.fixture
def document(model_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((model_dir / FILE).read_text())
    return content


def built(document: object) -> Core:
    return Core.read(FILE, json.dumps(document).encode())


def replace(pattern: str, content: str, how: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {how: pattern}, "content": content}


def sequence(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(rules)}


def charsmap(*texts: str) -> dict[str, Any]:
    blob = (4).to_bytes(4, "little") + bytes(4) + b"".join(text.encode() + b"\0" for text in texts)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}


@pytest.mark.parametrize("path", [DEMO / FILE, None])
def test_it_cuts_as_the_library_does(model_dir: Path, path: Path | None) -> None:
    """Whatever the file says of padding and of the length of texts, which are the runtime's business."""
    content = (path or model_dir / FILE).read_text()
    expected = Tokenizer.from_str(content)
    expected.no_padding()
    expected.no_truncation()
    document = json.loads(content)
    document["padding"] = {
        "strategy": {"Fixed": 99}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    for prompt in ("", "a red apple on a blue background", "ﷺ naïve 😀\u200d", "x" * 500):
        assert built(document).encode(prompt) == expected.encode(prompt).ids


RULES = [
    (None, 1),
    (replace("a", "bc"), 2),
    (replace("ab", "c"), 1),
    (replace("", "abc"), 4),
    (replace(r"\s*", "abc", "Regex"), 4),
    (sequence(replace("a", "aa"), {"type": "NFKC"}, {"type": "Prepend", "prepend": "__"}), 2 * 18 * 3),
    (charsmap("a", "abcde", "é"), 5),
]


def growth(document: dict[str, Any], rule: dict[str, Any] | None) -> int:
    """Characters that a rule makes of one at most, from how long a text may be: 4 million over that."""
    return 4_000_000 // built(document | {"normalizer": rule, "pre_tokenizer": None}).longest


@pytest.mark.parametrize(("rule", "expected"), RULES)
def test_growth(document: dict[str, Any], rule: dict[str, Any] | None, expected: int) -> None:
    assert growth(document, rule) == expected


@pytest.mark.parametrize("kind", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "Nmt"])
def test_growth_of_unicode(document: dict[str, Any], kind: str) -> None:
    """No character grows by more than is said: all that have a meaning, by the library itself."""
    arguments = {"strip_left": True, "strip_right": True} if kind == "Strip" else {}
    rule = {"type": kind, **arguments}
    tokenizer = Tokenizer.from_str(json.dumps({"model": {"type": "WordLevel", "vocab": {"x": 0}, "unk_token": "x"}}
                                              | {"normalizer": rule}))  # fmt: skip
    normalizer = tokenizer.normalizer
    characters = (chr(code) for code in range(0x30000) if not 0xD800 <= code < 0xE000)
    assert max(len(normalizer.normalize_str(c)) for c in characters) <= growth(document, rule)


def template(*single: str, ids: int = 1) -> dict[str, Any]:
    pieces = [
        {"Sequence": {"id": "A", "type_id": 0}} if p == "A" else {"SpecialToken": {"id": p, "type_id": 0}}
        for p in single
    ]
    special = {p: {"id": p, "ids": [2] * ids, "tokens": [p] * ids} for p in single if p != "A"}
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": special}


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "doubles forty times": ({"normalizer": sequence(*[replace("a", "aa")] * 40)}, "can make more than 10^9 characters"),
    "before it is cut": (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": False,
                                                                  "trim_offsets": False, "use_regex": False}] * 9}},
        "can make 262144 characters of one",
    ),
    "one long": ({"normalizer": replace("a", "a" * 2000)}, "can make 2000 characters of one"),
    "a map": ({"normalizer": charsmap("a" * 2000)}, "can make 2000 characters of one"),
    "a sequence without end": ({"normalizer": sequence(*[replace("a", "a")] * 65)}, "has 65 parts; allowed are 64"),
    "repeats the text": ({"post_processor": template(*"A" * 2000)}, "can make 2000 characters of one"),
    "adds tokens": ({"post_processor": template("[CLS]", "A", ids=65)}, "add 65 tokens"),
    "words that grow": (
        {"normalizer": replace("a", "a" * 1000), "added_tokens": [{"content": "a" * 9000}]}, "its own words have 9000"
    ),
    "unknown rule": ({"normalizer": {"type": "Exec\x1b[2J"}}, r"a rule of the kind 'Exec\x1b[2J' is not known"),
    "no type": ({"normalizer": {"nfc": True}}, "is no tokenizer (key 'type' not found)"),
    "a list": ({"normalizer": []}, "is no tokenizer"),
    "no model": ({"model": None}, "is no tokenizer"),
    "a word without number": ({"model": {"type": "WordLevel", "vocab": {"a": -1}}}, "is no tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_built(document: dict[str, Any], case: str) -> None:
    change, message = HOSTILE[case]
    with pytest.raises(BundleError) as error:
        built(document | change)
    assert str(error.value).startswith(f"{FILE}: ") and message in str(error.value)
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'"x"', b"\xff", b"[" * 9999, b'{"model": {}}'])
def test_what_is_no_tokenizer(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"^tokenizer\.json: "):
        Core.read(FILE, content)


def test_pieces_without_length_are_an_error_of_the_bundle(document: dict[str, Any]) -> None:
    """... where another library would fall over: pieces of no length."""
    document["pre_tokenizer"] = {"type": "FixedLength", "length": 0}
    with pytest.raises(BundleError, match=r"tokenizer\.json: "):
        built(document).encode("a red apple")


def test_a_word_that_is_missing_is_an_error_of_the_bundle(document: dict[str, Any]) -> None:
    document["model"]["unk_token"] = "[NONE]"
    tokenizer = built(document)
    with pytest.raises(BundleError, match=r"tokenizer\.json: cannot read a prompt \("):
        tokenizer.encode("zebra")
