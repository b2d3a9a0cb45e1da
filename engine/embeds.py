"""Text features that are given, in place of what the bundle's encoders make of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flagdit.engine.bundle import ModelSpec, Tensor
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import FloatArray

Embeds = npt.ArrayLike | Mapping[str, npt.ArrayLike]
"""Features of one text, (T, width) of every token or (width,) of all: by their names, as the graph `condition` takes
them (`Pipeline.stages.text.all_features` makes such), or, where there is one, without."""
Features = dict[str, FloatArray]
LONGEST = 4096
"""Tokens of a text for a model that came without a text encoder, and so without a bound of its own."""


def checked_embeds(spec: ModelSpec, given: Embeds | Sequence[Embeds], name: str) -> list[Features]:
    """Features (1, T, width) or (1, width) of each picture. Raises RequestError if they are not those of the model.

    T is at most what the bundle's encoder makes of the longest prompt; without one, LONGEST.
    """
    ports = {port.name: port for port in spec.graphs.condition.inputs if port.name not in ("t", "text_mask", "layers")}
    longest = {port.name: text.max_tokens for text in spec.texts for port in text.graph.outputs}
    several = isinstance(given, Sequence)
    texts: Sequence[Embeds] = given if isinstance(given, Sequence) else [given]
    out = []
    for number, text in enumerate(texts, 1):
        what = f"{name} of picture {number}" if several else name
        if not isinstance(text, Mapping):
            if len(ports) > 1:
                raise RequestError(f"{what} are one array; this model takes {', '.join(ports)}: give them by name")
            text = {next(iter(ports)): text}
        if text.keys() != ports.keys():
            names = ", ".join(map(str, text)) or "none"
            raise RequestError(f"{what} are {names}; this model takes {', '.join(ports)}")
        out.append({key: _checked(text[key], port, what, longest.get(key, LONGEST)) for key, port in ports.items()})
    return out


def checked_negative(spec: ModelSpec, given: Embeds | Sequence[Embeds]) -> Features:
    """Features of what guidance leads away from, in all pictures. Raises RequestError if they are several, or none."""
    found = checked_embeds(spec, given, "negative_embeds")
    if len(found) != 1:
        raise RequestError(f"negative_embeds are those of {len(found)} texts; allowed is one, for all pictures")
    return found[0]


def numbers(given: npt.ArrayLike, what: str) -> FloatArray:
    """As float32, in one piece. Raises RequestError if they are no real numbers."""
    try:
        array = np.asarray(given)
        if array.dtype.kind in "cSUmM":
            raise TypeError(f"they are {array.dtype}")
        with np.errstate(over="ignore"):  # of which infinities come, which are refused
            return np.ascontiguousarray(array, np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: torch's, of a gradient
        reason = " ".join(str(error).split())
        raise RequestError(f"{what} are no numbers that NumPy reads ({reason:.120}); give float32") from None


def _checked(given: npt.ArrayLike, port: Tensor, what: str, longest: int) -> FloatArray:
    wanted = list(port.shape or [])[1:]
    array = numbers(given, f"{what}: {port.name}")
    own = array.shape[1:] if array.ndim == len(wanted) + 1 and array.shape[0] == 1 else array.shape
    fits = len(own) == len(wanted) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(wanted, own, strict=True)
    )
    if not fits or 0 in own:
        axes = ", ".join(map(str, wanted))
        raise RequestError(f"{what}: {port.name} is {array.shape}; allowed is ({axes})")
    if wanted[0] == "T" and own[0] > longest:
        raise RequestError(f"{what}: {port.name} has {own[0]} tokens; allowed are {longest}")
    if not np.isfinite(array).all():
        raise RequestError(f"{what}: {port.name} has values that are no numbers in float32")
    return array.reshape(1, *own)
