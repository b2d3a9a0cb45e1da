"""Engines for TensorRT, built on the device that will run them: TensorRT compiles for the device at hand only.

Not run yet on a GPU, see docs/gpu-status.md. What it shares with TensorRT-RTX (build.py) is run by the tests.
"""

from __future__ import annotations

from pathlib import Path

from flagdit.engine.bundle import ModelSpec
from flagdit.engine.compiler.engines import (
    BuildOptions,
    BuiltEngine,
    EngineTarget,
    Progress,
    build_engines,
    check_fp8,
)
from flagdit.engine.tensorrt.driver import device_architecture

ELSEWHERE = "build on the device that will run the engine, or ahead of time for RTX GPUs with --target tensorrt-rtx"


def build_tensorrt(
    model_dir: Path, spec: ModelSpec, output: Path, *, options: BuildOptions, progress: Progress
) -> list[BuiltEngine]:
    """Build `condition` and `denoise` of a model directory into the directory `output`: both files, or neither.

    `options.architectures` is not used: the engines are those of CUDA device 0. TensorRT before 10.15 gets graphs
    without operators of opset 23 (plain.py). Raises BackendError if there is no CUDA device or no TensorRT,
    RequestError if the size cannot tile, BuildError if the device has no such precision or TensorRT makes no engine.
    """
    architecture = check_device(options)
    target = EngineTarget("tensorrt", (architecture,), ahead=False)
    return build_engines(model_dir, spec, output, target=target, options=options, progress=progress)


def check_device(options: BuildOptions) -> int:
    """Compute capability, times ten, of the device to build for.

    Raises BackendError if there is no CUDA device, BuildError if it does not compute in that precision.
    """
    architecture = device_architecture("building a TensorRT engine", ELSEWHERE)
    if options.precision == "fp8":
        check_fp8(architecture)
    return architecture
