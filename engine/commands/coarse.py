"""The option of commands that begins with a smaller picture."""

from __future__ import annotations

import re
from typing import Annotated, Any

import numpy as np
import typer

from flagdit.engine.coarse import Coarse
from flagdit.engine.errors import RequestError

NAMES = ("factor", "steps", "until", "shift", "end")
NUMBER = r"\d*\.?\d+"

CoarseOption = Annotated[
    str | None,
    typer.Option(
        metavar="FACTOR[:STEPS[:UNTIL]]",
        help="Begin with a smaller picture, of width and height over FACTOR and so many dense STEPS. Enlarged, and "
        "with noise to the time UNTIL, it is what --steps at the full size go on from; try 2. 1 is none. "
        "Two more numbers are the time shift of the coarse steps and the time that they end at.",
        show_default="the preset's",
    ),
]


def parse_coarse(text: str) -> Coarse:
    """Coarse of FACTOR[:STEPS[:UNTIL[:SHIFT[:END]]]]; STEPS may be times with commas, SHIFT none."""
    parts = [part.strip() for part in text.split(":")]
    kinds = zip(NAMES, (r"\d{1,3}", rf"\d{{1,4}}|{NUMBER}(,{NUMBER})+", NUMBER, rf"{NUMBER}|none", NUMBER), strict=True)
    if len(parts) > len(NAMES) or not all(re.fullmatch(kind, x) for (_, kind), x in zip(kinds, parts, strict=False)):
        raise RequestError(f"coarse {text!r} is not FACTOR[:STEPS[:UNTIL[:SHIFT[:END]]]]; for instance 2, or 2:10:0.4")
    said: dict[str, Any] = {}
    for name, part in zip(NAMES, parts, strict=False):
        whole = name == "factor" or (name == "steps" and "," not in part)
        numbers = tuple(float(number) for number in part.split(",")) if not whole and part != "none" else ()
        said[name] = int(part) if whole else numbers if name == "steps" else numbers[0] if numbers else None
    return Coarse(**said)


def format_coarse(coarse: Coarse) -> str:
    """The text that `parse_coarse` reads it from."""
    steps = str(coarse.steps) if isinstance(coarse.steps, int) else ",".join(map(positional, coarse.steps))
    shift = "none" if coarse.shift is None else positional(coarse.shift)
    return ":".join((str(coarse.factor), steps, positional(coarse.until), shift, positional(coarse.end)))


def positional(value: float) -> str:
    """A number without an exponent, that is read as exactly this one."""
    return np.format_float_positional(value, trim="-")
