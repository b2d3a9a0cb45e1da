"""What a model is tried with when a bundle is built of it: what fails then does not fail in a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flagdit.engine.bundle import regular
from flagdit.engine.bundle.graph_spec import Graph
from flagdit.engine.bundle.manifest import ModelSpec, Text
from flagdit.engine.errors import BuildError, BundleError
from flagdit.engine.finite import broken
from flagdit.engine.session import GraphFile, open_session
from flagdit.engine.text import prompts_of
from flagdit.engine.tokenizer import MAX_BYTES, Tokenizer

MOST_TRIED = 2 << 30
"""Bytes of an encoder's weights that are still read for a trial: of larger ones the exporter has checked the widths."""


def _is_large(directory: Path, graph: Graph) -> bool:
    return graph.weights is not None and (directory / graph.weights).stat().st_size > MOST_TRIED


def try_text(directory: Path, spec: ModelSpec) -> None:
    """Encode the longest prompt that a model says it takes. Raises BuildError unless that makes finite features.

    Nothing else says for how many tokens an encoder has positions. A model without a text encoder is let through.
    """
    tokenizers = [
        Tokenizer.read(text.tokenizer, regular.read(directory / text.tokenizer, MAX_BYTES)) for text in spec.texts
    ]
    prompts = prompts_of(spec, tokenizers)
    for text, tokens in zip(spec.texts, prompts.all_tokens(""), strict=True) if spec.texts else ():
        if not _is_large(directory, text.graph):
            _try(directory, text, tokens[0])


def _try(directory: Path, text: Text, token: int) -> None:
    graph = text.graph
    weights = {} if graph.weights is None else {graph.weights: regular.read(directory / graph.weights, MOST_TRIED)}
    session = open_session(
        GraphFile(graph.file, regular.read(directory / graph.file, regular.MAX_GRAPH_BYTES), weights)
    )
    ids = np.full((1, text.max_tokens), token, np.int64)
    try:
        made = session.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    except BundleError as error:
        raise BuildError(
            f"the text encoder does not take {text.max_tokens} tokens, which the model says that it does ({error}); "
            "export it again with fewer --max-text-tokens"
        ) from None
    axes = {"R": 1, "T": text.max_tokens}
    for port in graph.outputs:
        features, expected = made[port.name], tuple(axes.get(str(axis), axis) for axis in port.shape)
        if features.shape != expected:
            raise BuildError(
                f"{graph.file} makes features {features.shape} of {text.max_tokens} tokens; allowed are "
                f"{expected}: export the model again with its own text encoder"
            )
    named = {"the text" if name == "text" else f"the text's {name}": array for name, array in made.items()}
    if (found := broken(named)) is not None:
        raise BuildError(f"{graph.file}: {found}; export the model again with an intact text encoder")
