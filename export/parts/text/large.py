"""A text encoder of any size: traced from shapes, its weights from file to file into one of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from flagdit.export import onnx_graph
from flagdit.export.blocks import Blocks, fits
from flagdit.export.errors import ExportError
from flagdit.export.graph_source import GraphSource, Port
from flagdit.export.parts.text.encoder import Encoder
from flagdit.export.parts.text.modules import buffers, build
from flagdit.export.parts.text.narrow import put_blocks
from flagdit.export.parts.text.precision import BITS
from flagdit.export.sources import find_files
from flagdit.export.tensors import SCALE, Filed, Shapes
from flagdit.export.weights import Take, write_weights

OPSET = 21
"""23 makes rotary embeddings of one row's angles, which ONNX Runtime refuses for several rows."""

LEAST_TABLE = 1 << 16
"""Numbers of a table that is worth to be stored in blocks."""

BEGINNINGS = ("", "model.", "text_model.", "encoder.", "transformer.", "language_model.model.", "model.language_model.")
"""What may be before a module's names in a checkpoint that has other parts besides."""

TIED = {"encoder.embed_tokens.weight": "shared.weight", "shared.weight": "encoder.embed_tokens.weight"}


def export_large(
    source: Path,
    config: Any,
    directory: Path,
    wanted: Encoder,
    dtype: str,
    *,
    stem: str,
    progress: Callable[[int, int], None] = lambda done, whole: None,
    resumable: bool = False,
) -> dict[str, Any]:
    """Write `stem`.onnx and `stem`.safetensors; returns the graph's entry but for its ports.

    dtype: of the matrices; "int8" and "int4" are in blocks, and the few that do not fit in fp32.
    Raises ExportError if the weights are not those of the configuration.
    """
    tensors = Filed.open(*find_files(source))
    try:
        module = build(config, wanted)
        made = buffers(config, wanted, module)
    except (ValueError, AttributeError, KeyError) as error:
        raise ExportError(f"{source}: the text encoder cannot be made ({error})") from None
    shapes = _shapes(module)
    takes = {
        name: Take("", made=made[name]) if name in made else _take(source, name, tensors.shapes, shapes[name])
        for name in shapes
    }
    inner = {name.removeprefix("model."): take for name, take in takes.items()}
    path = directory / f"{stem}.safetensors"
    stored = {name.removeprefix("model."): shape for name, shape in shapes.items()}
    aliases = _aliases(module)
    blocks = _blocks(module, aliases, stored, BITS[dtype]) if dtype in BITS else {}
    kind = "float32" if dtype in BITS else dtype
    write_weights(path, stored, inner, tensors, kind, blocks=blocks, progress=progress, resumable=resumable)
    weights = onnx_graph.WeightsFile.open(path).calling(aliases).in_blocks(blocks)
    ports = tuple(Port(name, ("R", "T"), torch.int64) for name in ("input_ids", "attention_mask"))
    graph = GraphSource(module, ports, wanted.outputs, OPSET).trace(weights)
    _narrow(graph, blocks, weights)
    onnx_graph.save(graph, directory / f"{stem}.onnx", weights)
    return {"file": f"{stem}.onnx", "weights": path.name}


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of parameters and of all buffers, once each: tied ones have one name."""
    tensors: Mapping[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _aliases(module: nn.Module) -> dict[str, str]:
    """By every name of a parameter that has several, the one that it is stored under."""
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    both = module.named_parameters(remove_duplicate=False)
    return {name.removeprefix("model."): first[id(p)].removeprefix("model.") for name, p in both}


def _blocks(module: nn.Module, aliases: Mapping[str, str], shapes: Shapes, bits: int) -> dict[str, Blocks]:
    """Layers' matrices, and tables that are worth it: these have 8 bits at least."""
    found = {}
    for path, part in module.named_modules():
        if not isinstance(part, nn.Linear | nn.Embedding):
            continue
        name = f"{path}.weight".removeprefix("model.")
        name = aliases.get(name, name)
        table = isinstance(part, nn.Embedding)
        if fits(shapes[name]) and (not table or math.prod(shapes[name]) >= LEAST_TABLE):
            found[name] = Blocks(8 if table else bits, table)
    return found


def _narrow(graph: ir.Model, blocks: Mapping[str, Blocks], weights: onnx_graph.WeightsFile) -> None:
    """Put the matrices' blocks into the graph."""
    for name, value in list(graph.graph.initializers.items()):
        own = name.removeprefix(onnx_graph.PREFIX)
        own = weights.aliases.get(own, own)
        if name.startswith(onnx_graph.PREFIX) and own in blocks:
            put_blocks(graph, value, blocks[own], weights.tensor(own), weights.tensor(own + SCALE))


def _take(source: Path, name: str, shapes: Shapes, shape: tuple[int, ...]) -> Take:
    own = name.removeprefix("model.")
    for candidate in (own, TIED.get(own, own), *(own.removeprefix(b) for b in BEGINNINGS[1:] if own.startswith(b))):
        for beginning in BEGINNINGS:
            if beginning + candidate in shapes:
                if shapes[beginning + candidate] != shape:
                    raise ExportError(
                        f"{source}: {beginning + candidate} is {shapes[beginning + candidate]}, its config.json says "
                        f"{shape}; fetch the encoder again"
                    )
                return Take(beginning + candidate)
    raise ExportError(f"{source}: has no tensor {own}, which its config.json says; fetch the encoder again")
