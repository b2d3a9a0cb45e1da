"""A .cu file as C++: launches and shared memory become calls of cuda_emulator.h; everything else stays, line by line.

python rewrite.py IN.cu OUT.cpp
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

KERNEL = re.compile(r"(?:[A-Za-z_]\w*::)*[A-Za-z_]\w*(?:<[^<>();]*>)?\s*$")
SHARED = re.compile(
    r"(extern\s+)?__shared__\s+(?:__align__\(\d+\)\s+)?([\w:]+(?:<[^;]*?>)?)\s+(\w+)((?:\[[^\];]*\])*)\s*;"
)


def closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` closes."""
    depth = 0
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
    raise ValueError("a parenthesis does not close")


def launches(text: str) -> str:
    """kernel<T><<<grid, block, shared, stream>>>(arguments) as Launch(grid, block, shared, stream)("kernel", ...)."""
    at = text.find("<<<")
    while at >= 0:
        kernel = KERNEL.search(text[:at])
        ends, opens = text.find(">>>", at), text.find("(", text.find(">>>", at))
        if kernel is None or ends < 0:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: not a launch")
        closes = closing(text, opens)
        name, config = kernel.group().strip(), text[at + 3 : ends]
        call = f'::emulator::Launch({config})("{name}", [=] {{ {name}{text[opens : closes + 1]}; }})'
        text = text[: kernel.start()] + call + text[closes + 1 :]
        at = text.find("<<<")
    return text


def shared(text: str) -> str:
    """Declarations of shared memory as references into the block's."""

    def one(match: re.Match[str]) -> str:
        dynamic, kind, name, sizes = match.groups()
        if dynamic:
            return f"auto* {name} = static_cast<{kind}*>(::emulator::dynamic_shared_bytes());"
        return f"auto& {name} = *::emulator::shared<{kind}{sizes}>(__FILE__, __LINE__);"

    return SHARED.sub(one, text)


def rewritten(source: Path) -> str:
    """The file, to be compiled in its place: messages name its lines."""
    text = launches(shared(source.read_text()))
    return f'#include "cuda_emulator.h"\n#line 1 "{source}"\n{text}'


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(rewritten(Path(sys.argv[1])))
