"""What a model is tried with when a bundle is built of it: what fails then does not fail in a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flagdit.engine.bundle import regular
from flagdit.engine.bundle.graph_spec import Graph
from flagdit.engine.bundle.manifest import ModelSpec
from flagdit.engine.bundle.onnx_file import MAX_GRAPH_BYTES
from flagdit.engine.errors import BuildError, BundleError
from flagdit.engine.finite import broken
from flagdit.engine.session import GraphFile, open_session
from flagdit.engine.tokenizer import MAX_BYTES, Tokenizer

MOST_TRIED = 2 << 30
"""Bytes of an encoder's weights that are still read for a trial: of larger ones the exporter has checked the widths."""


def _is_large(directory: Path, graph: Graph) -> bool:
    return graph.weights is not None and (directory / graph.weights).stat().st_size > MOST_TRIED


def try_text(directory: Path, spec: ModelSpec) -> None:
    """Encode the longest prompt that a model says it takes. Raises BuildError unless that makes finite features.

    Nothing else says for how many tokens an encoder has positions. A model without a text encoder is let through.
    """
    text = spec.text
    if text is None or _is_large(directory, text.graph):
        return
    graph, (features_port,) = text.graph, text.graph.outputs
    expected = (1, text.max_tokens, features_port.shape[-1])
    tokenizer = Tokenizer.read(text.tokenizer, regular.read(directory / text.tokenizer, MAX_BYTES))
    weights = {} if graph.weights is None else {graph.weights: regular.read(directory / graph.weights, MOST_TRIED)}
    session = open_session(GraphFile(graph.file, regular.read(directory / graph.file, MAX_GRAPH_BYTES), weights))
    ids = np.full((1, text.max_tokens), tokenizer.encode("")[0], np.int64)
    try:
        features = session.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})[features_port.name]
    except BundleError as error:
        raise BuildError(
            f"the text encoder does not take {text.max_tokens} tokens, which the model says that it does ({error}); "
            "export it again with fewer --max-text-tokens"
        ) from None
    if features.shape != expected:
        raise BuildError(
            f"{graph.file} makes features {features.shape} of {text.max_tokens} tokens; allowed are "
            f"{expected}: export the model again with its own text encoder"
        )
    if (found := broken({"the text": features})) is not None:
        raise BuildError(f"{graph.file}: {found}; export the model again with an intact text encoder")
