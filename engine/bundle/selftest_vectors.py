"""Vectors of a self-test, from the graphs of a model on the CPU, in fp32."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flagdit.cpp_ext import Session, normal_noise
from flagdit.engine.bundle.graph_spec import Tensor
from flagdit.engine.bundle.manifest import ModelSpec
from flagdit.engine.bundle.ports import begins, caches, may_rest, twin
from flagdit.engine.bundle.selftest import CASES, KEPT, Array, SelfTest
from flagdit.engine.layout import TokenLayout
from flagdit.engine.session import GraphFile, open_session

TOKENS, ROWS, TEXT = 12, 2, 6
TIME = 0.4


def make_selftest(directory: Path, spec: ModelSpec) -> SelfTest:
    """Run `condition` and `place`, then `denoise` for each case; its caches are those that a first call wrote.

    Tokens of the test lie all over a picture of the model's size; text features and tokens are noise, and the last
    row's text is a third as long. Memory: that of `denoise` on a CPU.
    """
    made = _conditions(_open(directory, spec.graphs.condition.file), spec)
    made |= _placed(_open(directory, spec.graphs.place.file), spec)
    made["tokens"] = _noise((TOKENS, ROWS, spec.patch_values), 1)
    denoise, graph = _open(directory, spec.graphs.denoise.file), spec.graphs.denoise
    inputs = {tensor.name: _shaped(made[tensor.name], tensor) for tensor in graph.inputs if not begins(tensor, "M")}
    empty = {t.name: np.zeros((0, ROWS, *map(int, t.shape[2:])), np.float32) for t in caches(graph.inputs)}
    first = denoise.run(inputs | empty)
    inputs |= {tensor.name: _rounded(first[twin(tensor.name)]) for tensor in caches(graph.inputs)}
    selftest = SelfTest(inputs, {})
    expected = {}
    for case in CASES:
        if case.rests and not may_rest(graph):
            continue
        outputs = denoise.run(selftest.given(denoise.ports, case))
        expected[case.name] = {n: x if n == "velocity" else x[:KEPT] for n, x in outputs.items() if len(x)}
    return SelfTest(inputs, expected)


def _open(directory: Path, file: str) -> Session:
    return open_session(GraphFile.beside(directory / file), lean=False)


def _conditions(session: Session, spec: ModelSpec) -> dict[str, Array]:
    """What `condition` makes of noise for a text, of one evaluation."""
    graph, sizes = spec.graphs.condition, {"S": 1, "R": ROWS, "T": TEXT}
    mask = np.ones((ROWS, TEXT), np.bool_)
    mask[-1, TEXT // 3 :] = False
    layers = np.ones(spec.layers, np.float32)
    known: dict[str, Array] = {"t": np.array([TIME], np.float32), "text_mask": mask, "layers": layers}
    given = {
        t.name: known[t.name]
        if t.name in known
        else _noise(tuple(sizes[a] if isinstance(a, str) else a for a in t.shape), 2)
        for t in graph.inputs
    }
    outputs = session.run(given)
    return {t.name: _rounded(outputs[t.name][0] if begins(t, "S") else outputs[t.name]) for t in graph.outputs}


def _placed(session: Session, spec: ModelSpec) -> dict[str, Array]:
    """What `place` makes for tokens from all over a picture, with the pinned ones first as in slots."""
    layout = TokenLayout.of(spec, None)
    known: dict[str, Array] = {
        "place": layout.places(),
        "extent": np.array(layout.extent, np.int64),
        "ntk": np.ones(1, np.float32),
        "proportional": np.zeros(1, np.bool_),
        "phase": np.zeros(1, np.int64),
    }
    outputs = session.run({t.name: known[t.name] for t in spec.graphs.place.inputs})
    chosen = layout.slots()[np.linspace(0, layout.tokens - 1, TOKENS).astype(int)]
    return {
        t.name: _rounded(outputs[t.name][chosen] if begins(t, "N") else outputs[t.name])
        for t in spec.graphs.place.outputs
    }


def _shaped(values: Array, tensor: Tensor) -> Array:
    """What is the same for all rows, of each row, if `denoise` takes it so."""
    if tensor.shape[:2] == ("A", "R") and values.ndim < len(tensor.shape):
        return np.ascontiguousarray(np.broadcast_to(values[:, None], (TOKENS, ROWS, *values.shape[1:])))
    return values


def _noise(shape: tuple[int, ...], seed: int) -> Array:
    out = np.empty((1, int(np.prod(shape))), np.float32)
    normal_noise(out, [seed])
    return _rounded(out.reshape(shape))


def _rounded(values: Array) -> Array:
    """Values that float16 holds, so that half precision takes the same ones."""
    if values.dtype != np.float32:
        return values
    return np.clip(values, -65504, 65504).astype(np.float16).astype(np.float32)
