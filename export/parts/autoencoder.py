"""An autoencoder's folder, as diffusers saves it, -> `decode` and `encode`, or a `preview`."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flagdit.export import onnx_graph
from flagdit.export.errors import ExportError
from flagdit.export.families.family import shapes_of
from flagdit.export.graph_source import GraphSource, Port
from flagdit.export.parts.names import renamed
from flagdit.export.parts.vae import Decode, Encode, TinyDecoder, Vae, VaeConfig
from flagdit.export.sources import find_files
from flagdit.export.tensors import Filed, Shapes
from flagdit.export.weights import Take, expected, write_weights

OLD = ((r"\.to_q\.", ".query."), (r"\.to_k\.", ".key."), (r"\.to_v\.", ".value."), (r"\.to_out\.0\.", ".proj_attn."))
"""Names of the attention in folders that an early diffusers saved."""

PICTURE: tuple[int | str, ...] = ("B", 3, "Y", "X")


def read_vae(source: Path, channels: int) -> tuple[dict[str, Any], Filed]:
    """The configuration of a folder, and its tensors. Raises ExportError if it is none for so many channels."""
    path = source / "config.json"
    try:
        config = json.loads(path.read_text())
        kind, found = config["_class_name"], config["latent_channels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path}: not the configuration of an autoencoder of diffusers ({error})") from None
    if kind not in ("AutoencoderKL", "AutoencoderTiny"):
        raise ExportError(f"{path}: a {kind} cannot be exported; allowed are AutoencoderKL and AutoencoderTiny")
    if found != channels:
        raise ExportError(f"{path}: its latents have {found} channels, and the model's {channels}; give its own")
    return config, Filed.open(*find_files(source))


def export_vae(source: Path, directory: Path, channels: int, dtype: str) -> tuple[dict[str, Any], int]:
    """Write `decode.onnx`, `encode.onnx` and `vae.safetensors`; their entries, and pixels of a latent's side."""
    config, tensors = read_vae(source, channels)
    if config["_class_name"] != "AutoencoderKL":
        raise ExportError(f"{source}: is one for previews (--preview), and not the model's decoder")
    shape = _shape(config, tensors.shapes, source)
    with torch.device("meta"):
        model = Vae(shape).eval()
    weights = _write(source, model, tensors, directory / "vae.safetensors", dtype)
    latents = Port("latents", ("B", channels, "H", "W"))
    sources: dict[str, tuple[GraphSource, list[int | str]]] = {
        "decode": (GraphSource(Decode(model), (latents,), ("picture",)), list(PICTURE)),
        "encode": (
            GraphSource(Encode(model), (Port("picture", PICTURE),), ("latents",)),
            ["B", channels, "H", "W"],
        ),
    }
    return {
        name: _save(name, graph, axes, directory, weights) for name, (graph, axes) in sources.items()
    }, shape.downscale


def export_preview(source: Path, directory: Path, channels: int) -> dict[str, Any]:
    """Write `preview.onnx` and its weights, of a folder of AutoencoderTiny (TAESD)."""
    config, tensors = read_vae(source, channels)
    if config["_class_name"] != "AutoencoderTiny":
        raise ExportError(f"{source}: is an {config['_class_name']}; a preview is made by an AutoencoderTiny (TAESD)")
    widths = config["decoder_block_out_channels"]
    with torch.device("meta"):
        model = TinyDecoder(channels, widths[0], tuple(config["num_decoder_blocks"])).eval()
    tensors = tensors.without("decoder.")
    weights = _write(source, model, tensors, directory / "preview.safetensors", "float16")
    graph = GraphSource(_Named(model), (Port("latents", ("B", channels, "H", "W")),), ("picture",))
    return {"preview": _save("preview", graph, list(PICTURE), directory, weights)}


class _Named(nn.Module):
    """A module under the name that weights are looked up by."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model(latents)
        return out


def _shape(config: dict[str, Any], shapes: Shapes, source: Path) -> VaeConfig:
    try:
        return VaeConfig(
            latent_channels=config["latent_channels"],
            widths=tuple(config["block_out_channels"]),
            layers=config["layers_per_block"],
            groups=config.get("norm_num_groups", 32),
            scale=float(config["scaling_factor"]),
            shift=float(config.get("shift_factor") or 0.0),
            quant="quant_conv.weight" in shapes,
            post_quant="post_quant_conv.weight" in shapes,
            attention=any(".mid_block.attentions." in name for name in shapes),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{source / 'config.json'}: does not say {error}") from None


def _write(source: Path, model: nn.Module, tensors: Filed, path: Path, dtype: str) -> onnx_graph.WeightsFile:
    shapes = shapes_of(model)
    takes = {name: _take(name, tensors.shapes, shapes[name]) for name in shapes}
    for name, shape in expected(takes, shapes).items():
        if tensors.shapes.get(name) != shape:
            raise ExportError(
                f"{source}: {name} is {tensors.shapes.get(name, 'missing')}; its config.json says {shape}"
            )
    write_weights(path, shapes, takes, tensors, "float16" if dtype == "int8" else dtype)
    return onnx_graph.WeightsFile.open(path)


def _take(name: str, theirs: Collection[str], shape: tuple[int, ...]) -> Take:
    return Take(name if name in theirs else renamed(name, OLD))


def _save(
    name: str, graph: GraphSource, axes: list[int | str], directory: Path, weights: onnx_graph.WeightsFile
) -> dict[str, Any]:
    onnx_graph.save(graph.trace(weights), directory / f"{name}.onnx", weights)
    inputs = [{"name": p.name, "dtype": "float32", "shape": list(p.axes)} for p in graph.inputs if isinstance(p, Port)]
    outputs = [{"name": graph.outputs[0], "dtype": "float32", "shape": axes}]
    return {"file": f"{name}.onnx", "inputs": inputs, "outputs": outputs, "weights": weights.path.name}
