"""A graph's inputs and outputs as `model.json` has them."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir


def describe(model: ir.Model) -> dict[str, Any]:
    """Names, types and symbolic axes of a graph's inputs and outputs: one letter, whatever the graph says behind it."""

    def tensors(values: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": v.name,
                "dtype": v.dtype.numpy().name,
                "shape": [d if isinstance(d, int) else str(d).split("_")[0] for d in v.shape],
            }
            for v in values
        ]

    return {"inputs": tensors(model.graph.inputs), "outputs": tensors(model.graph.outputs)}
