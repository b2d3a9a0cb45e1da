"""The option of commands that begins with a smaller picture."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from flagdit.engine.coarse import Coarse
from flagdit.engine.errors import RequestError

CoarseOption = Annotated[
    str | None,
    typer.Option(
        metavar="FACTOR[:STEPS[:UNTIL]]",
        help="Begin with a smaller picture, of width and height over FACTOR and so many dense STEPS. Enlarged, and "
        "with noise to the time UNTIL, it is what --steps at the full size go on from; try 2. 1 is none.",
        show_default="the preset's",
    ),
]


def parse_coarse(text: str) -> Coarse:
    """Coarse of FACTOR[:STEPS[:UNTIL]]."""
    match = re.fullmatch(r"(\d{1,3})(?::(\d{1,4})(?::(\d*\.?\d+))?)?", text.strip())
    if match is None:
        raise RequestError(f"coarse {text!r} is not FACTOR[:STEPS[:UNTIL]]; for instance 2, or 2:10:0.4")
    names, types = ("factor", "steps", "until"), (int, int, float)
    return Coarse(**{n: of(x) for n, of, x in zip(names, types, match.groups(), strict=True) if x is not None})
