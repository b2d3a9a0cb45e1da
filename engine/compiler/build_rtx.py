"""Engines for TensorRT-RTX, built ahead of time and without a GPU, for the architectures they will run on."""

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
from flagdit.engine.errors import BuildError

ARCHITECTURES = (75, 80, 86, 89, 120, 121)
"""Compute capabilities, times ten, that TensorRT-RTX compiles for ahead of time."""

JETSON = {87: "Jetson Orin", 110: "Jetson Thor"}


def build_rtx(
    model_dir: Path, spec: ModelSpec, output: Path, *, options: BuildOptions, progress: Progress
) -> list[BuiltEngine]:
    """Build `condition` and `denoise` of a model directory into the directory `output`: both files, or neither.

    One engine holds the kernels of all `options.architectures`. Raises BackendError if TensorRT-RTX is not
    installed, RequestError if the size cannot tile, and BuildError if it does not compile for an architecture or
    makes no engine.
    """
    check_architectures(options)
    target = EngineTarget("tensorrt-rtx", tuple(sorted(set(options.architectures))), ahead=True)
    return build_engines(model_dir, spec, output, target=target, options=options, progress=progress)


def check_architectures(options: BuildOptions) -> None:
    """Raise BuildError unless TensorRT-RTX compiles for these architectures in this precision."""
    allowed = ", ".join(map(str, ARCHITECTURES))
    if not options.architectures:
        raise BuildError(f"no architecture to build for; TensorRT-RTX compiles for sm {allowed}")
    for number in options.architectures:
        if number in JETSON:
            raise BuildError(
                f"sm {number} ({JETSON[number]}): TensorRT-RTX compiles for sm {allowed}. A Jetson builds its own "
                "engines: copy the model directory there, then: flagdit build DIR -o BUNDLE --target tensorrt"
            )
        if number not in ARCHITECTURES:
            raise BuildError(f"sm {number}: TensorRT-RTX compiles for sm {allowed} (89 is compute capability 8.9)")
    if options.precision == "fp8":
        for number in options.architectures:
            check_fp8(number)
    if options.precision == "bfloat16" and 75 in options.architectures:
        raise BuildError("sm 75 (Turing) has no bfloat16; leave it out, or choose float16")
