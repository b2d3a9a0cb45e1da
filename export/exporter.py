"""FlagDiT -> model directory: `model.json`, `weights.safetensors` and its graphs.

The directory is the only interface to `flagdit.engine`; `model.json` says all it needs to know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from flagdit.export import graphs, onnx_graph
from flagdit.export.checkpoint import Checkpoint
from flagdit.export.config import FlagDiTConfig
from flagdit.export.flag_dit import FlagDiT
from flagdit.export.layers import MASKED
from flagdit.export.options import MODEL, ExportOptions, check
from flagdit.export.storage import check_stored, store
from flagdit.export.text_encoder import TEXT_GRAPH, export_text_encoder
from flagdit.files import whole_folder

SCHEMA_VERSION = 2
EXAMPLE = {
    "A": 6,
    "M": 4,
    "N": 7,
    "R": 4,
    "T": 5,
    "S": 3,
}  # sizes to trace with: all differ from 0 and 1, which specialise


def export_model(
    source: FlagDiT | Checkpoint,
    directory: Path,
    options: ExportOptions,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the model directory, or nothing: its files are made in a folder of their own in there, and move when whole.

    Raises OutputError if `directory` is not empty, is written by another process or cannot be written; ExportError if
    an option is out of bounds or does not go with the model or the text encoder (before a weight is read), or if a
    weight is no number in the type to store.
    """
    check(directory, options, source.config)
    with whole_folder(directory, MODEL) as folder:
        if isinstance(source, Checkpoint):
            progress("weights")
            source = source.load()
        _write(source, folder, options, progress=progress)


def _write(model: FlagDiT, directory: Path, options: ExportOptions, *, progress: Callable[[str], None]) -> None:
    progress("weights")
    path, state = directory / "weights.safetensors", model.state_dict()
    stored = store(state, options.dtype)
    check_stored(state, stored, options.dtype)
    try:
        save_file(stored, path)
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(str(error)) from None
    path.chmod(0o644)  # safetensors makes it private
    weights = onnx_graph.WeightsFile.open(path)
    described = {}
    traces: dict[str, Callable[[], ir.Model]] = {
        "condition": lambda: trace_condition(model),
        "place": lambda: trace_place(model.config, options.size),
        "denoise": lambda: trace_denoise(model),
    }
    for name, trace in traces.items():
        progress(name)
        graph = trace()
        described[name] = {"file": f"{name}.onnx", **describe(graph)}
        onnx_graph.save(graph, directory / f"{name}.onnx", weights)
    texts = []
    if options.text_encoder is not None:
        progress("text_encoder")
        text = export_text_encoder(options.text_encoder, directory, options.max_text_tokens, int8=options.text_int8)
        texts.append({"graph": {"file": TEXT_GRAPH, **describe(ir.load(directory / TEXT_GRAPH))}, **text})
    spec = specification(model, options, described, texts=texts, weights=path)
    (directory / MODEL).write_text(json.dumps(spec, indent=2) + "\n")


def trace_condition(model: FlagDiT) -> ir.Model:
    """The graph that runs once per prompt."""
    e, width = EXAMPLE, model.config.cap_feat_dim
    args = (torch.rand(e["S"]), torch.randn(e["R"], e["T"], width), torch.ones(e["R"], e["T"], dtype=torch.bool))
    names = ["modulation", "final_modulation", "text_bias", *graphs.kv_names("text", model.config.n_layers)]
    axes = tuple(onnx_graph.dynamic_axes(a) for a in graphs.CONDITION_INPUTS.values())
    return onnx_graph.trace(graphs.Condition(model), args, axes, inputs=list(graphs.CONDITION_INPUTS), outputs=names)


def trace_place(config: FlagDiTConfig, size: tuple[int, int]) -> ir.Model:
    """The graph that runs once per size; `size` (width, height) is that of the training."""
    places = torch.arange(4 * EXAMPLE["N"]).reshape(-1, 4)
    args = (places, torch.ones(1), torch.zeros(1, dtype=torch.bool))
    axes = tuple(onnx_graph.dynamic_axes(a) for a in graphs.PLACE_INPUTS.values())
    place = graphs.Place(config, config.tokens(size))
    return onnx_graph.trace(place, args, axes, inputs=list(graphs.PLACE_INPUTS), outputs=graphs.PLACE_OUTPUTS)


def trace_denoise(model: FlagDiT) -> ir.Model:
    """The graph that runs once per step."""
    c, (a, m, r, t) = model.config, (EXAMPLE[k] for k in "AMRT")
    patch, kv = c.patch_size**2 * c.in_channels, (c.kv_heads, c.head_dim)
    args = (
        torch.randn(a, r, patch),
        torch.zeros(a, 1),
        *(torch.randn(a, r, c.head_dim // 2) for _ in range(2)),
        torch.ones(1),
        torch.randn(r, c.n_layers, 6, c.dim),
        torch.randn(r, 2, c.dim),
        torch.zeros(r, 1, 1, t),
        [tuple(torch.randn(r, kv[0], t, kv[1]) for _ in range(2)) for _ in range(c.n_layers)],
        [tuple(torch.randn(m, r, *kv) for _ in range(2)) for _ in range(c.n_layers)],
    )
    text = [(onnx_graph.dynamic_axes(("R", None, "T", None)),) * 2] * c.n_layers
    tail = [(onnx_graph.dynamic_axes(("M", "R", None, None)),) * 2] * c.n_layers
    axes = (*(onnx_graph.dynamic_axes(x) for x in graphs.DENOISE_INPUTS.values()), text, tail)
    inputs = [*graphs.DENOISE_INPUTS, *(n for k in ("text", "tail") for n in graphs.kv_names(k, c.n_layers))]
    return onnx_graph.trace(
        graphs.Denoise(model), args, axes, inputs=inputs, outputs=["velocity", *graphs.kv_names("head", c.n_layers)]
    )


def describe(model: ir.Model) -> dict[str, Any]:
    """Names, types and symbolic axes of a graph's inputs and outputs."""

    def tensors(values: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": v.name,
                "dtype": v.dtype.numpy().name,
                "shape": [d if isinstance(d, int) else str(d) for d in v.shape],
            }
            for v in values
        ]

    return {"inputs": tensors(model.graph.inputs), "outputs": tensors(model.graph.outputs)}


def specification(
    model: FlagDiT, options: ExportOptions, described: dict[str, Any], *, texts: list[dict[str, Any]], weights: Path
) -> dict[str, Any]:
    """The content of `model.json`: identity, conventions, token layout, graphs."""
    c = model.config
    return {
        "schema_version": SCHEMA_VERSION,
        "name": options.name,
        "family": "flag-dit",
        "config": asdict(c),
        "weights": {
            "file": weights.name,
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "dtype": options.dtype,
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "latent": {
            "space": "pixels" if c.in_channels == 3 else "vae",
            "channels": c.in_channels,
            "size": list(options.size),
        },
        "tokens": {"patch": [1, c.patch_size, c.patch_size], "closes": ["line"]},
        # Lumina guides the first three channels only.
        "guidance": {"channels": [0, 1, 2], "rows": ["cond", "uncond"], "scale": options.guidance},
        "flow": {"shift": options.shift},
        "sizes": {
            "width": c.dim,
            "hidden": c.ffn_dim,
            "heads": c.n_heads,
            "kv_heads": c.kv_heads,
            "head": c.head_dim,
        },
        "price": c.price(),
        "texts": texts,
        "pads": {"text_bias": MASKED},
        "examples": list(options.examples),
        "graphs": described,
        "licences": options.licences,
        "exporter": {"flagdit": version("flagdit"), "torch": torch.__version__, "opset": onnx_graph.OPSET},
    }
