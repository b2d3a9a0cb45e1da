"""The content of `model.json`: identity, conventions, token layout, graphs (docs/bundle.md)."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch

from flagdit.export import onnx_graph
from flagdit.export.families.family import Model, count
from flagdit.export.options import ExportOptions

SCHEMA_VERSION = 2


def specification(
    model: Model,
    options: ExportOptions,
    described: dict[str, Any],
    *,
    texts: list[dict[str, Any]],
    weights: dict[str, Any],
    downscale: int = 1,
) -> dict[str, Any]:
    """weights: file, sha256 and dtype. downscale: pixels of a latent's side, where the model has a decoder.

    What a model does not need of the newer fields is left out.
    """
    facts = model.facts()
    tokens: dict[str, Any] = {"patch": [1, facts.patch, facts.patch], "closes": list(facts.closes)}
    if facts.multiple != 1:
        tokens["multiple"] = facts.multiple
    guidance: dict[str, Any] = {
        "channels": list(facts.guided or range(facts.channels)),
        "rows": ["cond", "uncond"],
        "scale": options.guidance if options.guidance is not None else facts.guidance,
    }
    phases = options.phases or facts.phases
    renormalise = options.renormalise or facts.renormalise
    if renormalise != "none":
        guidance["renormalise"] = renormalise
    if facts.skip_layers:
        guidance["skip_layers"] = list(facts.skip_layers)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": options.name or model.family,
        "family": model.family,
        "config": model.config(),
        "weights": {**weights, "parameters": count(model.module)},
        "latent": {
            "space": "pixels" if facts.channels == 3 else "vae",
            "channels": facts.channels,
            "size": [side * downscale for side in options.size],
            **({"downscale": downscale} if downscale > 1 else {}),
        },
        "tokens": tokens,
        "guidance": guidance,
        "flow": {"shift": options.shift if options.shift is not None else facts.shift},
        **({"phases": list(phases)} if phases != (0.0,) else {}),
        **({"ntk_power": facts.ntk_power} if facts.ntk_power != 1 else {}),
        "sizes": facts.sizes,
        "price": facts.price,
        "texts": texts,
        "pads": facts.pads,
        "examples": list(options.examples),
        "graphs": described,
        "licences": options.licences,
        "exporter": {"flagdit": version("flagdit"), "torch": torch.__version__, "opset": onnx_graph.OPSET},
    }
