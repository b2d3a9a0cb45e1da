"""What `denoise` takes, from the graphs of a pipeline by their numpy faces: no loop, no slots, nothing that moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flagdit.engine import Pipeline
from flagdit.engine.bundle.ports import timed
from flagdit.engine.layout import TokenLayout

Arrays = dict[str, np.ndarray]


def conditions(
    pipeline: Pipeline, prompts: list[str], times: Sequence[float], layers: np.ndarray | None = None
) -> tuple[Arrays, Arrays]:
    """Of R prompts: constant over a run (R, ...), and of each of the times (S, R, ...). layers: where told."""
    text, mask = pipeline.stages.text.encode(prompts)
    told = {} if layers is None else {"layers": layers}
    made = pipeline.stages.condition.run({"t": np.array(times, np.float32), "text": text, "text_mask": mask, **told})
    changing = {port.name: made.pop(port.name) for port in timed(pipeline.spec.graphs.condition)}
    return made, changing


def places(pipeline: Pipeline, layout: TokenLayout) -> tuple[Arrays, Arrays]:
    """By token (N, ...), and for all of them: of a run without extrapolation."""
    options = {"ntk": np.ones(1, np.float32), "proportional": np.zeros(1, np.bool_), "phase": np.zeros(1, np.int64)}
    inputs = {"place": layout.places(), "extent": np.array(layout.extent, np.int64), **options}
    session = pipeline.stages.place
    made = session.run({port.name: inputs[port.name] for port in session.ports if not port.output})
    shared = {name: made.pop(name) for name in list(made) if len(made[name]) != layout.tokens}
    return made, shared


def tail(name: str) -> bool:
    """Whether an input of `denoise` is the tail of a cache."""
    return "_tail" in name
