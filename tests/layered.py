"""A bundle whose `condition` takes `layers`, of a family that has none: who skips some has smaller modulations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from flagdit.cpp_ext import Port, Session
from flagdit.engine.bundle import Tensor
from flagdit.engine.run import Stages

LAYERS = 4


class Layered:
    """A session of `condition` with the input."""

    def __init__(self, session: Session) -> None:
        self._session, self.name, self.backend = session, "condition", "numpy"
        self.ports = [*session.ports, Port("layers", "float32", [LAYERS])]

    def run(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        given = dict(arrays)
        share = np.asarray(given.pop("layers")).mean()
        made = self._session.run(given)
        return made | {"modulation": np.asarray(made["modulation"]) * share}

    def bind(self, arrays: Mapping[str, Any]) -> Any:
        raise NotImplementedError


def with_layers(stages: Stages, suiting: tuple[int, ...] = ()) -> Stages:
    """The same with such a graph. suiting: layers that the model says."""
    spec = stages.spec
    condition = spec.graphs.condition
    inputs = (*condition.inputs, Tensor(name="layers", dtype="float32", shape=(LAYERS,)))
    graphs = spec.graphs.model_copy(update={"condition": condition.model_copy(update={"inputs": inputs})})
    guidance = spec.guidance.model_copy(update={"skip_layers": suiting})
    spec = spec.model_copy(update={"graphs": graphs, "guidance": guidance})
    return replace(stages, spec=spec, condition=cast(Session, Layered(stages.condition)))
