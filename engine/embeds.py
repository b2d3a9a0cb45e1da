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


def checked_embeds(spec: ModelSpec, given: Embeds | Sequence[Embeds], name: str) -> list[Features]:
    """Features (1, T, width) or (1, width) of each picture. Raises RequestError if they are not those of the model."""
    ports = {port.name: port for port in spec.graphs.condition.inputs if port.name not in ("t", "text_mask")}
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
            raise RequestError(f"{what} are {', '.join(text) or 'none'}; this model takes {', '.join(ports)}")
        out.append({key: _checked(text[key], port, what) for key, port in ports.items()})
    return out


def _checked(given: npt.ArrayLike, port: Tensor, what: str) -> FloatArray:
    wanted = list(port.shape or [])[1:]
    try:
        array = np.ascontiguousarray(given, np.float32)
    except (TypeError, ValueError):
        raise RequestError(f"{what}: {port.name} are no numbers") from None
    own = array.shape[1:] if array.ndim == len(wanted) + 1 and array.shape[0] == 1 else array.shape
    fits = len(own) == len(wanted) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(wanted, own, strict=True)
    )
    if not fits or 0 in own:
        axes = ", ".join(map(str, wanted))
        raise RequestError(f"{what}: {port.name} is {array.shape}; allowed is ({axes})")
    return array.reshape(1, *own)
