"""What TensorRT made of a graph, read from its verbose log: an engine can be inspected only where it can run."""

from __future__ import annotations

import re

from flagdit.engine.bundle import Spec

FUSED_ATTENTION = "_gemm_mha_v2"  # the tactic that runs a whole attention as one kernel
HOST_LAYERS = frozenset({"shape_call", "signal", "wait"})
"""Layers that launch nothing: shape arithmetic, and the synchronisation of streams."""

LAYER = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<type>\w+).*?TacticName: (?P<tactic>[^,]*)", re.MULTILINE)
ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
LOW = re.compile(r"Datatype: (Int8|FP8)\b")
WEIGHTS = re.compile(r"Total Weights Memory: (\d+) bytes")


class LayerReport(Spec):
    """Launches of one run of an engine, how many of them are whole attentions, and the memory it asks for.

    products, low_products: launches that are matrix products, and those of them that read int8 or fp8.
    """

    kernels: int
    fused_attentions: int
    activation_bytes: int
    weights_bytes: int
    products: int = 0
    low_products: int = 0


def read_layers(log: str) -> LayerReport | None:
    """Summary of the layers listed in a verbose log with detailed profiling verbosity.

    None if it lists none, as when TensorRT writes to another logger: the first one in a process wins.
    """
    layers = [match for match in LAYER.finditer(log) if match["type"] not in HOST_LAYERS]
    products = [match[0] for match in layers if match["type"] == "gemm"]
    if not layers:
        return None
    return LayerReport(
        products=len(products),
        low_products=sum(LOW.search(product) is not None for product in products),
        kernels=len(layers),
        fused_attentions=sum(match["tactic"].startswith(FUSED_ATTENTION) for match in layers),
        activation_bytes=max(map(int, ACTIVATIONS.findall(log)), default=0),
        weights_bytes=max(map(int, WEIGHTS.findall(log)), default=0),
    )
