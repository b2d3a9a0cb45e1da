"""A graph that multiplies in int8, for ONNX Runtime on CPUs that have instructions for it."""

from __future__ import annotations

import time
from pathlib import Path

import onnxruntime

from flagdit.engine.bundle import staged
from flagdit.engine.compiler.int8 import to_int8
from flagdit.engine.compiler.precision import import_ir
from flagdit.engine.errors import BuildError
from flagdit.engine.manifest import Engine, ModelSpec

FILE = "denoise.int8.onnx"


def build_int8(model_dir: Path, spec: ModelSpec, output: Path) -> list[Engine]:
    """Write the int8 twin of `denoise` into the directory `output`; its weights are those of the bundle.

    Raises BackendError if onnx_ir is not installed, BuildError if the model's weights are not stored as int8.
    """
    if spec.weights.dtype != "int8":
        raise BuildError(
            f"the weights of {spec.name} are stored as {spec.weights.dtype}; "
            "for int8 export them so: flagdit export CHECKPOINT -o MODEL --dtype int8"
        )
    ir, graph, start = import_ir(), spec.graphs.denoise, time.monotonic()
    model = ir.load(model_dir / graph.file)
    if to_int8(model) == 0:
        raise BuildError(f"{graph.file}: no product with int8 weights in it; export the model again with this flagdit")
    with staged(output / FILE) as part:
        ir.save(model, part)
    engine = Engine(
        graph="denoise",
        file=FILE,
        target="onnxruntime",
        version=onnxruntime.__version__,
        architectures=(),
        platform="any",
        precision="int8",
        profiles=(),
        inputs=graph.inputs,
        outputs=graph.outputs,
        build_seconds=round(time.monotonic() - start, 2),
    )
    return [engine]
