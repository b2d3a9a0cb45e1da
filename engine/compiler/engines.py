"""Model directory -> engine files, for either flavour of TensorRT."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from flagdit.engine.bundle import Engine, Graph, ModelSpec
from flagdit.engine.bundle.weights import check_weights
from flagdit.engine.compiler.build import LOW, Built, Job, Precision
from flagdit.engine.compiler.layers import LayerReport
from flagdit.engine.compiler.process import build_apart
from flagdit.engine.compiler.profiles import Limits, profiles, ranges
from flagdit.engine.compiler.quantised import HALF
from flagdit.engine.compiler.scales import SCALES, Low
from flagdit.engine.errors import BuildError
from flagdit.engine.tensorrt.package import Target, require

GraphName = Literal["condition", "denoise"]
GRAPHS: tuple[GraphName, ...] = get_args(GraphName)
"""What gains from a GPU engine. The text encoder runs once per prompt and stays in ONNX Runtime."""

FP8 = 89
"""The first compute capability, times ten, that multiplies fp8."""

SHORT = {"tensorrt-rtx": "rtx", "tensorrt": "trt"}

Progress = Callable[[str, float], None]
"""Called with the name of a graph and the fraction of its build that is done, from 0 to 1."""


@dataclass(frozen=True)
class BuildOptions:
    """What to compile for, in which precision, and the largest request to serve.

    architectures: compute capabilities times ten, for TensorRT-RTX; TensorRT builds for the device at hand.
    precision: int8 and fp8 take the scales that lie beside the engines to be (SCALES).
    """

    architectures: tuple[int, ...] = (86, 89, 120)
    precision: Precision = "float16"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise BuildError(f"precision {self.precision!r} is not one of {', '.join(get_args(Precision))}")

    @property
    def low(self) -> Low | None:
        """What products multiply in, if that is narrower than half."""
        return self.precision if self.precision in LOW else None


class BuiltEngine(NamedTuple):
    """An engine as the manifest records it, and what TensorRT made of the graph (None: it did not say)."""

    engine: Engine
    layers: LayerReport | None


@dataclass(frozen=True)
class EngineTarget:
    """Where engines will run: `architectures`, compiled for ahead of time, or the device at hand if not `ahead`."""

    flavour: Target
    architectures: tuple[int, ...]
    ahead: bool

    def file(self, graph: GraphName) -> str:
        return ".".join([graph, "-".join([SHORT[self.flavour], *(f"sm{n}" for n in self.architectures)]), "engine"])


def build_engines(
    model_dir: Path, spec: ModelSpec, output: Path, *, target: EngineTarget, options: BuildOptions, progress: Progress
) -> list[BuiltEngine]:
    """Build `condition` and `denoise` into the directory `output`: both files, or neither.

    Raises BackendError if TensorRT is not installed, RequestError if the size cannot tile, BuildError if a weight is
    too large for the precision or there is no engine in the end, and OutputError if it cannot be written.
    """
    axes = ranges(spec, options.limits)
    half: Precision = HALF if options.low else options.precision
    check_weights(model_dir / spec.weights.file, half)
    graphs: dict[GraphName, Graph] = {"condition": spec.graphs.condition, "denoise": spec.graphs.denoise}
    jobs = {
        name: Job(
            target=target.flavour,
            graph=(model_dir / graphs[name].file).resolve(),
            output=output.resolve() / target.file(name),
            precision=options.precision if name == "denoise" else half,
            profile=profiles(graphs[name], axes),
            architectures=target.architectures if target.ahead else None,
            scales=output.resolve() / SCALES if options.low and name == "denoise" else None,
        )
        for name in GRAPHS
    }
    try:
        return [_build(name, job, target, progress=progress) for name, job in jobs.items()]
    except BaseException:
        for job in jobs.values():
            job.output.unlink(missing_ok=True)
        raise


def check_fp8(architecture: int) -> None:
    """Raise BuildError if a GPU of that compute capability, times ten, has no fp8."""
    if architecture < FP8:
        raise BuildError(f"sm {architecture} has no fp8, which begins with sm {FP8} (Ada); choose int8 or float16")


def check_engines(spec: ModelSpec, target: Target, options: BuildOptions) -> None:
    """Raise what `build_engines` would, of all that can be known before it: the bindings, and the shapes to serve."""
    require(target)
    axes = ranges(spec, options.limits)
    for graph in (spec.graphs.condition, spec.graphs.denoise):
        profiles(graph, axes)


def _build(name: GraphName, job: Job, target: EngineTarget, *, progress: Progress) -> BuiltEngine:
    progress(name, 0.0)
    built = build_apart(job, lambda fraction: progress(name, fraction))
    progress(name, 1.0)
    return BuiltEngine(_record(name, job, target, built=built), built.layers)


def _record(name: GraphName, job: Job, target: EngineTarget, *, built: Built) -> Engine:
    return Engine(
        graph=name,
        file=target.file(name),
        target=target.flavour,
        version=built.version,
        architectures=target.architectures,
        platform=f"{sys.platform}-{platform.machine().lower()}",
        precision=job.precision,
        profiles=(job.profile,),
        inputs=built.inputs,
        outputs=built.outputs,
        build_seconds=built.seconds,
        peak_build_bytes=built.peak_bytes,
    )
