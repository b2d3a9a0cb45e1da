"""What denoise needs besides the tokens, from the text and the times: made once, by the graph `condition`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flagdit.engine.layout import FloatArray
from flagdit.engine.manifest import Tensor
from flagdit.engine.session import Array, OnnxSession


def make_conditions(
    session: OnnxSession,
    outputs: Sequence[Tensor],
    times: FloatArray,
    prompts: Sequence[str],
    features: Mapping[str, FloatArray],
    pads: Mapping[str, float],
) -> dict[str, Array]:
    """The outputs by name, at times (S,), with a row for each of R prompts; features: (T, Y) of each different one.

    Each text goes through the graph alone and at its own length, since ONNX Runtime sums its mean in an order that
    depends on padding, batch and threads, and int8 makes another picture of a last bit. Shorter ones are filled up: by
    `pads`, of outputs by name, or zeros.
    """
    made = {prompt: _alone(session, times, text) for prompt, text in features.items()}
    return {
        output.name: _join(output, [made[prompt][output.name] for prompt in prompts], pads.get(output.name, 0.0))
        for output in outputs
    }


def _alone(session: OnnxSession, times: FloatArray, text: FloatArray) -> dict[str, Array]:
    return session.run({"t": times, "text": text[None], "text_mask": np.ones((1, len(text)), np.bool_)})


def _join(output: Tensor, rows: list[Array], pad: float) -> Array:
    """Arrays that have one row each as one array with all of them, along the axes of R and T."""
    shape, axis = list(rows[0].shape), output.shape.index("R")
    shape[axis] = len(rows)
    if "T" in output.shape:
        along = output.shape.index("T")
        shape[along] = max(row.shape[along] for row in rows)
    out = np.full(shape, pad, rows[0].dtype)
    for place, row in enumerate(rows):
        part = [slice(size) for size in row.shape]
        part[axis] = slice(place, place + 1)
        out[tuple(part)] = row
    return out
