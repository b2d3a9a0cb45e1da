"""A graph of `denoise` for ONNX Runtime's CUDA provider: written anew (cuda_graph.py), and compiled by no builder.

Layers that cuda_graph.py cannot write anew, because they are of another kind, stay as they were exported, in the
precision that is asked for (precision.py): the same numbers in more launches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from flagdit.engine import session
from flagdit.engine.bundle import Engine, ModelSpec
from flagdit.engine.bundle.weights import check_weights
from flagdit.engine.compiler.build import describe
from flagdit.engine.compiler.cuda_graph import CudaPrecision, to_cuda
from flagdit.engine.compiler.precision import import_ir, to_half
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

CUDA_PRECISIONS: tuple[CudaPrecision, ...] = get_args(CudaPrecision)
"""The default first. In float32 no attention is Flash: it is to compare with."""


def build_cuda(
    model_dir: Path,
    spec: ModelSpec,
    output: Path,
    *,
    precision: CudaPrecision = "float16",
    notes: Callable[[str], None] = lambda _: None,
) -> list[Engine]:
    """Write the graph into the directory `output`; its weights are those of the bundle. `notes` is told what stays.

    Raises BackendError if onnx_ir is not installed, BuildError if a weight is too large for the precision.
    """
    graph, start = spec.graphs.denoise, time.monotonic()
    check_weights(model_dir / spec.weights.file, precision)
    model, anew = written(model_dir / graph.file, precision)
    file = f"denoise.cuda-{precision}.onnx"
    if not anew:
        notes(f"{file}: its layers are of a kind that is not written anew yet; they stay as exported, in more launches")
    import_ir().save(model, output / file)
    engine = Engine(
        graph="denoise",
        file=file,
        target="onnxruntime-cuda",
        version=session.onnxruntime().version,
        architectures=(),
        platform="any",
        precision=precision,
        profiles=(),
        inputs=describe(model.graph.inputs),
        outputs=describe(model.graph.outputs),
        build_seconds=round(time.monotonic() - start, 2),
    )
    return [engine]


def written(path: Path, precision: CudaPrecision) -> tuple[ir.Model, bool]:
    """The graph in that precision, and whether its layers are written anew."""
    model: ir.Model = import_ir().load(path)
    try:
        to_cuda(model, precision)
    except BuildError:
        model = import_ir().load(path)  # the other one is half rewritten
        if precision != "float32":
            to_half(model, precision)
        return model, False
    return model, True
