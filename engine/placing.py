"""What `denoise` takes of every token besides its latent: made by the graph `place`, once a run and size."""

from __future__ import annotations

import numpy as np

from flagdit.engine.errors import RequestError
from flagdit.engine.layout import Ntk, TokenLayout
from flagdit.engine.manifest import Graph
from flagdit.engine.session import Array, OnnxSession


def check_extrapolation(place: Graph, ntk: Ntk, proportional: bool) -> None:
    """Raise RequestError for an option of sizes beyond training that a model's `place` has no input for."""
    taken = {tensor.name for tensor in place.inputs}
    for name, asked in (("ntk", ntk is not None), ("proportional", proportional)):
        if asked and name not in taken:
            raise RequestError(f"{name} is nothing that this model knows; leave it out")


def placed(session: OnnxSession, layout: TokenLayout, ntk: float = 1.0, proportional: bool = False) -> dict[str, Array]:
    """The outputs of `place` by name: those whose first axis is N by token, (N, ...), and those of the whole run.

    ntk, proportional: see contract.PLACE_INPUTS; a graph takes those that it has inputs for.
    """
    inputs: dict[str, Array] = {
        "place": layout.places(),
        "extent": np.array(layout.extent, np.int64),
        "ntk": np.array([ntk], np.float32),
        "proportional": np.array([proportional]),
    }
    return session.run({name: array for name, array in inputs.items() if name in session.inputs})
