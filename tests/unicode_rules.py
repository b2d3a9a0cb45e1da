"""Where Hugging Face's `tokenizers` is of another Unicode than utf8proc, which is asked itself.

`python tests/unicode_rules.py > cpp_ext/src/text/exceptions.inc`;
tests/test_text.py compares every character afterwards.
"""

from __future__ import annotations

import base64
import ctypes
import json
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
Rule = Callable[[str], bool]


@cache
def utf8proc() -> ctypes.CDLL:
    source = Path(__file__).parents[1] / "cpp_ext" / "third_party" / "utf8proc" / "utf8proc.c"
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/utf8proc.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", source, "-o", library], check=True)
        found = ctypes.CDLL(library)
    found.utf8proc_category_string.restype = ctypes.c_char_p
    found.utf8proc_grapheme_break_stateful.restype = ctypes.c_bool
    found.utf8proc_get_property.restype = ctypes.POINTER(ctypes.c_uint16)
    return found


def kind(*kinds: str) -> Rule:
    return lambda c: utf8proc().utf8proc_category_string(ord(c)).decode().startswith(kinds)


def combining(c: str) -> int:
    """The class that marks are put in order by: the second number of a property."""
    return int(utf8proc().utf8proc_get_property(ord(c))[1])


def compatible(c: str) -> str:
    """What it is made of: NFKD of one character."""
    parts, boundary = (ctypes.c_int32 * 32)(), ctypes.c_int(0)
    count = utf8proc().utf8proc_decompose_char(ord(c), parts, 32, (1 << 4) | (1 << 2), ctypes.byref(boundary))
    return "".join(map(chr, parts[:count]))


def matches(pattern: str) -> Rule:
    split = pre_tokenizers.Split(Regex(f"^{pattern}$"), "removed")
    return lambda c: split.pre_tokenize_str(c) == []


def bert(**options: bool) -> normalizers.BertNormalizer:
    off = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    return normalizers.BertNormalizer(**(off | options))


def parts(rule: pre_tokenizers.PreTokenizer, text: str) -> int:
    return len(rule.pre_tokenize_str(text))


CLEAN, ACCENTS, NFD, NFKD = bert(clean_text=True), bert(strip_accents=True), normalizers.NFD(), normalizers.NFKD()
STRIP, PUNCTUATION, DIGITS = normalizers.StripAccents(), pre_tokenizers.Punctuation("isolated"), pre_tokenizers.Digits()
WORDS = pre_tokenizers.Whitespace()


def bare(c: str) -> bool:
    """Whether BERT takes it for a mark: what is left of it where it was taken apart."""
    return ACCENTS.normalize_str(c) == ""


CLASSES: dict[str, tuple[Rule, Rule]] = {
    "control": (
        lambda c: kind("Cc", "Cf", "Cs", "Co")(c) and c not in "\t\n\r",
        lambda c: CLEAN.normalize_str(c) == "" and c != "\ufffd",
    ),
    "accent": (kind("Mn"), bare),
    "combining": (kind("M"), lambda c: STRIP.normalize_str(c) == ""),
    "punctuation": (kind("P"), lambda c: parts(PUNCTUATION, f"a{c}a") == 3 and not (c.isascii() and c in "$+<=>^`|~")),
    "numeric": (kind("N"), lambda c: parts(DIGITS, f"a{c}") == 2),
    "word": (kind("L", "M", "Nd", "Nl", "Pc"), lambda c: parts(WORDS, f"a{c}a") == 1),
    "letter": (kind("L"), matches(r"\p{L}")),
    "number": (kind("N"), matches(r"\p{N}")),
    "mark": (kind("M"), matches(r"\p{M}")),
    "sign": (kind("P"), matches(r"\p{P}")),
}
"""Of each class, what a category of utf8proc says, and what `tokenizers` does."""


def unordered(c: str) -> bool:
    """A mark with a class of its own that `tokenizers` does not put in order."""
    own = combining(c)
    text = f"a{c}\u0323" if own > 220 else f"a\u0301{c}"
    return own not in (0, 230 if own <= 220 else 220) and NFD.normalize_str(text) == text


def charsmap() -> str:
    """SentencePiece's map that makes "b" of "A", and of nothing else: units of a trie (Darts-clone), and texts."""
    units = [0] * 1024
    units[0] = 256 << 10
    units[256 ^ 65] = 65 | 1 << 8 | 512 << 10
    units[256 ^ 65 ^ 512] = 1 << 31
    content = struct.pack("<1025I", 4096, *units) + b"b\0"
    return base64.b64encode(content).decode()


PRECOMPILED = Tokenizer.from_str(
    json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": []}}
               | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap()}})
).normalizer  # fmt: skip


def extends(c: str) -> tuple[bool, bool]:
    """Whether it is one with a character before it, for utf8proc and for `tokenizers`."""
    state = ctypes.c_int32(0)
    apart = utf8proc().utf8proc_grapheme_break_stateful(0x41, ord(c), ctypes.byref(state))
    return not apart, PRECOMPILED.normalize_str(f"A{c}") == "b"


def ranges(characters: Iterable[str]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for code in sorted(map(ord, characters)):
        if found and found[-1][1] == code - 1:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return found


def table(type: str, name: str, rows: Iterable[tuple[int, int]]) -> None:
    text = ", ".join(f"{{{a:#x}, {b:#x}}}" for a, b in rows)
    print(f"const {type} {name}[] = {{{text}}};")


def main() -> None:
    print("// Written by tests/unicode_rules.py: where `tokenizers` is of another Unicode than utf8proc.")
    for name, (said, done) in CLASSES.items():
        table("Range", name, ranges(c for c in CHARACTERS if said(c) != done(c)))
    whole = [c for c in CHARACTERS if compatible(c) != NFKD.normalize_str(c)]
    assert all(NFKD.normalize_str(c) == c for c in whole), whole
    table("Range", "whole", ranges(whole))
    table("Range", "unordered", ranges(filter(unordered, CHARACTERS)))
    found = {c: extends(c) for c in CHARACTERS if c not in "\0\n"}
    assert (True, False) not in found.values(), "a mark is none any more"
    table("Range", "extending", ranges(c for c, (said, done) in found.items() if done and not said))
    lower = normalizers.Lowercase()
    simple = [(c, lower.normalize_str(c)) for c in CHARACTERS if len(lower.normalize_str(c)) == 1]
    newer = [(c, new) for c, new in simple if chr(utf8proc().utf8proc_tolower(ord(c))) != new]
    table("Pair", "lowered", [(ord(c), ord(new)) for c, new in newer])


if __name__ == "__main__":
    main()
