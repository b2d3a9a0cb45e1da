"""Checkpoint -> model directory: `model.json`, `weights.safetensors` and its graphs.

The directory is the only interface to `flagdit.engine`; `model.json` says all it needs to know. Weights go from file to
file, and graphs are traced from shapes, so a model may be larger than memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir

from flagdit.export import onnx_graph
from flagdit.export.checkpoint import Checkpoint
from flagdit.export.families.family import shapes_of
from flagdit.export.families.flag_dit.graphs import denoise_source
from flagdit.export.families.flag_dit.model import FlagDiT
from flagdit.export.graph_source import LONGER
from flagdit.export.options import MODEL, ExportOptions, check
from flagdit.export.parts.text.small import TEXT_GRAPH, export_text_encoder
from flagdit.export.specification import specification
from flagdit.export.weights import write_weights
from flagdit.files import whole_folder

WEIGHTS = "weights.safetensors"


def export_model(
    source: FlagDiT | Checkpoint,
    directory: Path,
    options: ExportOptions,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the model directory, or nothing: its files are made in a folder of their own in there, and move when whole.

    progress: is told what is made, and of the weights how much of them. Raises OutputError if `directory` is not empty,
    is written by another process or cannot be written; ExportError if an option is out of bounds or does not go with
    the model or the text encoder (before a weight is read), or if a weight is no number in the type to store.
    """
    checkpoint = Checkpoint.held(source) if isinstance(source, FlagDiT) else source
    check(directory, options, checkpoint.model.facts())
    with whole_folder(directory, MODEL) as folder:
        _write(checkpoint, folder, options, progress=progress)


def _write(source: Checkpoint, directory: Path, options: ExportOptions, *, progress: Callable[[str], None]) -> None:
    progress("weights")
    path, shapes = directory / WEIGHTS, shapes_of(source.model.module)

    def tell(done: int, whole: int) -> None:
        progress(f"weights, {done / 1e9:.2f} of {whole / 1e9:.2f} GB")

    digest = write_weights(path, shapes, source.takes, source.tensors, options.dtype, progress=tell)
    weights = onnx_graph.WeightsFile.open(path)
    described = {}
    for name, graph in source.model.graphs(options.size).items():
        progress(name)
        model = graph.trace(weights)
        described[name] = {"file": f"{name}.onnx", **describe(model)}
        onnx_graph.save(model, directory / f"{name}.onnx", weights)
    texts = []
    if options.text_encoder is not None:
        progress("text_encoder")
        text = export_text_encoder(options.text_encoder, directory, options.max_text_tokens, int8=options.text_int8)
        texts.append({"graph": {"file": TEXT_GRAPH, **describe(ir.load(directory / TEXT_GRAPH))}, **text})
    held = {"file": path.name, "sha256": digest, "dtype": options.dtype}
    spec = specification(source.model, options, described, texts=texts, weights=held)
    (directory / MODEL).write_text(json.dumps(spec, indent=2) + "\n")


def trace_denoise(model: FlagDiT) -> ir.Model:
    """The graph of a Flag-DiT that runs once per step."""
    return denoise_source(model).trace()


def describe(model: ir.Model) -> dict[str, Any]:
    """Names, types and symbolic axes of a graph's inputs and outputs."""

    def tensors(values: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": v.name,
                "dtype": v.dtype.numpy().name,
                "shape": [d if isinstance(d, int) else str(d).replace(LONGER, "T") for d in v.shape],
            }
            for v in values
        ]

    return {"inputs": tensors(model.graph.inputs), "outputs": tensors(model.graph.outputs)}
