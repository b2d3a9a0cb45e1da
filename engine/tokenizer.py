"""A bundle's tokenizer: read as data, bounded, and only then built; what it does wrong is the bundle's fault.

tokenizer.json holds rules that rewrite a text before it is cut into tokens. Chained, a few of them make gigabytes of a
sentence. So each rule's growth is bounded from the file: by how much more characters it can make of a text.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from flagdit.engine.errors import BundleError, FlagditError
from flagdit.engine.json_file import parse_json

MAX_BYTES = 64 << 20
"""Of the file: those of vocabularies of 250000 words take 17 MB."""
MAX_GROWTH = 1024
"""Of all rules together: ALBERT's, with three that know all of Unicode, could reach 972."""
MAX_TEXT = 4_000_000
"""Characters that the rules may make of a prompt, or of the file's own words."""
MAX_ADDED = 64
"""Tokens that are added to every text, such as the marks of its beginning and its end."""

UNICODE = 18
"""Characters that Unicode normalisation makes of one, at most: U+FDFA."""
GROWTH = {
    **dict.fromkeys(("NFC", "NFD"), 4),
    **dict.fromkeys(("NFKC", "NFKD"), UNICODE),
    **dict.fromkeys(("Strip", "StripAccents", "Nmt"), 1),
    "Lowercase": 3,
    "BertNormalizer": 3 * 3 * 4,  # spaces around ideographs, lower case, accents taken apart
    "ByteLevel": 4,
    **dict.fromkeys(("BertPreTokenizer", "CharDelimiterSplit", "FixedLength", "Metaspace", "Split", "Punctuation"), 1),
    **dict.fromkeys(("Digits", "UnicodeScripts", "Whitespace", "WhitespaceSplit"), 1),
}
"""Of rules whose growth does not depend on what the file says."""
PARTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}
"""Where rules are in the file, and what the parts of a sequence of them are called."""


class BundleTokenizer:
    """Cuts texts into tokens."""

    def __init__(self, name: str, content: bytes) -> None:
        """content: of the file `name`. Raises BundleError if it is no tokenizer, or one without bounds."""
        document = parse_json(content, Path(name))
        self._name, self._growth = name, growth(name, document)
        with blamed(name, "is no tokenizer"):
            # What was checked is what is built: no second reading of the file, in which names may be there twice.
            self._tokenizer = Tokenizer.from_str(json.dumps({**document, "truncation": None, "padding": None}))
        if not self.encode(""):
            raise BundleError(
                f"{name}: makes no token of an empty text, and guidance needs one; export the model again"
            )

    @property
    def longest(self) -> int:
        """Characters of a text that may be given to it."""
        return MAX_TEXT // self._growth

    def encode(self, text: str) -> list[int]:
        """Token ids. Raises BundleError if the tokenizer fails."""
        with blamed(self._name, "cannot read a prompt"):
            return list(self._tokenizer.encode(text).ids)


@contextmanager
def blamed(name: str, what: str) -> Iterator[None]:
    """Turn whatever a library raises over a file into a BundleError. A panic of Rust is no Exception."""
    try:
        yield
    except (FlagditError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise BundleError(f"{name}: {what} ({(str(error).splitlines() or [type(error).__name__])[0]})") from None


def growth(name: str, document: Any) -> int:
    """How many characters the rules of a tokenizer.json can make of one, at most.

    Raises BundleError if that is more than MAX_GROWTH, if a rule is not known, or if the file is no such document.
    """
    try:
        grown = math.prod(_growth(document.get(key), parts) for key, parts in PARTS.items())
        copies, added = _added(document.get("post_processor"))
        own = sum(len(token["content"]) for token in document.get("added_tokens") or [])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"{name}: is no tokenizer ({error})") from None
    grown *= copies
    if grown > MAX_GROWTH or added > MAX_ADDED or own * grown > MAX_TEXT:
        raise BundleError(
            f"{name}: its rules can make {_count(grown)} characters of one and add {_count(added)} tokens, and its own "
            f"words have {own}; allowed are {MAX_GROWTH}, {MAX_ADDED}, and {MAX_TEXT} for what becomes of the words"
        )
    return grown


def _growth(rule: Mapping[str, Any] | None, parts: str) -> int:
    if rule is None:
        return 1
    kind = rule["type"]
    if kind == "Sequence":
        return math.prod(_growth(part, parts) for part in _capped(rule[parts]))
    if kind == "Replace":
        (how, pattern), content = next(iter(rule["pattern"].items())), len(rule["content"])
        return max(1, -(-content // len(pattern))) if how == "String" and pattern else 1 + content
    if kind == "Prepend":
        return 1 + len(rule["prepend"])
    if kind == "Precompiled":
        return _longest(base64.b64decode(rule["precompiled_charsmap"] or ""))
    if kind not in GROWTH:
        raise ValueError(f"a rule of the kind {str(kind)[:40]!a} is not known")
    return GROWTH[kind]


def _capped(parts: list[Any]) -> list[Any]:
    if len(parts) > MAX_ADDED:
        raise ValueError(f"a sequence has {len(parts)} parts; allowed are {MAX_ADDED}")
    return parts


def _longest(charsmap: bytes) -> int:
    """Characters of the longest replacement in SentencePiece's map: bytes of a trie, the trie, texts that end in 0."""
    size = int.from_bytes(charsmap[:4], "little")
    return max((len(text.decode("utf-8")) for text in charsmap[4 + size :].split(b"\0")), default=1) or 1


def _added(rule: Mapping[str, Any] | None) -> tuple[int, int]:
    """How often the text itself comes in what is made of its tokens, and how many tokens are added."""
    if rule is None or rule["type"] == "ByteLevel":
        return 1, 0
    if rule["type"] in ("RobertaProcessing", "BertProcessing"):
        return 1, 4
    if rule["type"] == "Sequence":
        made = [_added(part) for part in _capped(rule["processors"])]
        copies = math.prod(copies for copies, _ in made)
        return copies, copies * sum(added for _, added in made)
    if rule["type"] != "TemplateProcessing":
        raise ValueError(f"a rule of the kind {str(rule['type'])[:40]!a} is not known")
    named = [part["SpecialToken"]["id"] for part in rule["single"] if "SpecialToken" in part]
    return max(1, len(rule["single"]) - len(named)), sum(len(rule["special_tokens"][name]["ids"]) for name in named)


def _count(number: int) -> str:
    return str(number) if number < 10**9 else "more than 10^9"
