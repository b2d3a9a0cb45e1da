"""The option of commands that leads away from a model without some of its layers."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from flagdit.engine.commands.coarse import NUMBER, positional
from flagdit.engine.errors import RequestError
from flagdit.engine.skip_layers import SkipLayerGuidance

SkipLayerGuidanceOption = Annotated[
    str | None,
    typer.Option(
        metavar="SCALE[:START[:STOP[:LAYERS]]]",
        help="In the steps between these shares of all (0.01 and 0.2) lead away from what the model says without some "
        "of its layers, too, such as 7,8,9; try 2.8. For models that know it; such steps "
        "cost half as much again. 0 is none.",
        show_default="none",
    ),
]


def parse_skip_layer_guidance(text: str | None) -> SkipLayerGuidance | None:
    """SCALE[:START[:STOP[:LAYERS]]], of which a scale of 0 is none; of its bounds the request knows."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(":")]
    kinds = (*[rf"-?{NUMBER}"] * 3, r"\d{1,6}( *, *\d{1,6})*")
    if len(parts) > len(kinds) or not all(map(re.fullmatch, kinds, parts)):
        raise RequestError(
            f"skip_layer_guidance {text!r} is not SCALE[:START[:STOP[:LAYERS]]]; for instance 2.8, or "
            "2.8:0.01:0.2:7,8,9"
        )
    numbers = dict(zip(("scale", "start", "stop"), map(float, parts), strict=False))
    if numbers["scale"] == 0:
        return None
    layers = tuple(int(layer) for layer in parts[3].split(",")) if len(parts) > 3 else None
    return SkipLayerGuidance(**numbers, layers=layers)


def format_skip_layer_guidance(guidance: SkipLayerGuidance) -> str:
    """The text that `parse_skip_layer_guidance` reads it from."""
    parts = [positional(number) for number in (guidance.scale, guidance.start, guidance.stop)]
    return ":".join(parts if guidance.layers is None else [*parts, ",".join(map(str, guidance.layers))])
