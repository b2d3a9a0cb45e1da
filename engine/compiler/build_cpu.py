"""Graphs that multiply in int8, for ONNX Runtime on CPUs that have instructions for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from flagdit.engine import session
from flagdit.engine.bundle import Engine, ModelSpec, Tensor
from flagdit.engine.bundle.ports import keys_or_values
from flagdit.engine.compiler.amx import to_amx
from flagdit.engine.compiler.int8 import to_int8
from flagdit.engine.compiler.precision import import_ir
from flagdit.engine.errors import BuildError

CpuPrecision = Literal["int8", "int8-bf16"]
CPU_PRECISIONS: tuple[CpuPrecision, ...] = get_args(CpuPrecision)
"""int8 in ONNX Runtime's own operators, for any CPU; int8-bf16 in the core's, for CPUs with tiles."""

REWRITES = {"int8": to_int8, "int8-bf16": to_amx}


def file_of(precision: CpuPrecision) -> str:
    """The name that such a graph has in a bundle."""
    return f"denoise.{precision}.onnx"


def build_cpu(
    model_dir: Path, spec: ModelSpec, output: Path, *, precisions: Sequence[CpuPrecision] = CPU_PRECISIONS
) -> list[Engine]:
    """Write the int8 twins of `denoise` into the directory `output`; their weights are those of the bundle.

    Raises BackendError if onnx_ir is not installed, BuildError if the model's weights are not stored as int8.
    """
    check_int8(spec)
    return [_build(model_dir, spec, output, precision=precision) for precision in precisions]


def check_int8(spec: ModelSpec) -> None:
    """Raise BuildError unless the model's weights are stored as int8, BackendError unless onnx_ir is installed."""
    if spec.weights.dtype != "int8":
        raise BuildError(
            f"the weights of {spec.name} are stored as {spec.weights.dtype}; "
            "for int8 export them so: flagdit export CHECKPOINT -o MODEL --dtype int8"
        )
    import_ir()


def _build(model_dir: Path, spec: ModelSpec, output: Path, *, precision: CpuPrecision) -> Engine:
    ir, graph, start = import_ir(), spec.graphs.denoise, time.monotonic()
    model = ir.load(model_dir / graph.file)
    if REWRITES[precision](model) == 0:
        raise BuildError(f"{graph.file}: no product with int8 weights in it; export the model again with this flagdit")
    ir.save(model, output / file_of(precision))
    return Engine(
        graph="denoise",
        file=file_of(precision),
        target="onnxruntime",
        version=session.onnxruntime().version,
        architectures=(),
        platform="any",
        precision=precision,
        profiles=(),
        inputs=_border(graph.inputs, precision),
        outputs=_border(graph.outputs, precision),
        build_seconds=round(time.monotonic() - start, 2),
    )


def _border(tensors: tuple[Tensor, ...], precision: CpuPrecision) -> tuple[Tensor, ...]:
    """What goes in or out, with the types it has in this precision."""
    if precision == "int8":
        return tensors
    half = {"dtype": "bfloat16"}
    return tuple(t.model_copy(update=half) if keys_or_values(t.name, t.shape) else t for t in tensors)
