"""A graph of `denoise` for ONNX Runtime's CUDA provider: written anew (cuda_graph.py), and compiled by no builder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

from flagdit.engine import session
from flagdit.engine.bundle import Engine, ModelSpec
from flagdit.engine.bundle.weights import check_weights
from flagdit.engine.compiler.build import describe
from flagdit.engine.compiler.cuda_graph import CudaPrecision, to_cuda
from flagdit.engine.compiler.precision import import_ir

CUDA_PRECISIONS: tuple[CudaPrecision, ...] = get_args(CudaPrecision)
"""The default first. In float32 no attention is Flash: it is to compare with."""


def build_cuda(model_dir: Path, spec: ModelSpec, output: Path, *, precision: CudaPrecision = "float16") -> list[Engine]:
    """Write the graph into the directory `output`; its weights are those of the bundle.

    Raises BackendError if onnx_ir is not installed, BuildError if a weight is too large for the precision, or if the
    layers of `denoise` are of a kind that is not known.
    """
    ir, graph, start = import_ir(), spec.graphs.denoise, time.monotonic()
    check_weights(model_dir / spec.weights.file, precision)
    model, file = ir.load(model_dir / graph.file), f"denoise.cuda-{precision}.onnx"
    to_cuda(model, precision)
    ir.save(model, output / file)
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
