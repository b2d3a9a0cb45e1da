"""`flagdit build`: a model directory in, a bundle out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from flagdit.engine.bundle import Engine, Manifest, ModelSpec
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.commands.build_low import LowBuild, with_difference
from flagdit.engine.commands.common import messages, parse_size, read_prompts, say
from flagdit.engine.commands.progress import Log, redraws
from flagdit.engine.compiler import (
    CPU_PRECISIONS,
    BuildOptions,
    BuiltEngine,
    CpuPrecision,
    CudaPrecision,
    Limits,
    build_cpu,
    build_cuda,
    build_rtx,
    build_tensorrt,
    check_architectures,
    check_engines,
    check_int8,
)
from flagdit.engine.compiler.build import Precision as GpuPrecision
from flagdit.engine.compiler.build_tensorrt import check_device
from flagdit.engine.compiler.precision import import_ir
from flagdit.engine.errors import BuildError
from flagdit.engine.tensorrt.package import Target as GpuTarget


class Target(StrEnum):
    """What a bundle's graphs run in."""

    onnxruntime = "onnxruntime"
    onnxruntime_cuda = "onnxruntime-cuda"
    tensorrt_rtx = "tensorrt-rtx"
    tensorrt = "tensorrt"


class Precision(StrEnum):
    """What an engine computes in."""

    float16 = "float16"
    bfloat16 = "bfloat16"
    float32 = "float32"
    int8 = "int8"
    int8_bf16 = "int8-bf16"
    fp8 = "fp8"


PRECISIONS = {
    Target.onnxruntime: (Precision.float32, Precision.int8, Precision.int8_bf16),
    Target.onnxruntime_cuda: (Precision.float16, Precision.bfloat16, Precision.float32),
    Target.tensorrt_rtx: (Precision.float16, Precision.bfloat16, Precision.float32, Precision.int8, Precision.fp8),
    Target.tensorrt: (Precision.float16, Precision.bfloat16, Precision.float32, Precision.int8, Precision.fp8),
}
"""Of each target, the default first."""

USED = {
    Target.onnxruntime: (),
    Target.onnxruntime_cuda: (),
    Target.tensorrt_rtx: ("--sm", "--max-size", "--max-batch", "--prompts"),
    Target.tensorrt: ("--max-size", "--max-batch", "--prompts"),
}
"""Options that say something of each target's engines."""

ARCHITECTURES, FP8_ARCHITECTURES = "86,89,120", "89,120"

PRECISION_HELP = (
    "Of the engines: float16, bfloat16 or float32 on a GPU, with TensorRT and TensorRT-RTX also int8, and fp8 from "
    "sm 89 on; int8 or int8-bf16 on a CPU, both if so exported."
)

BUILDERS = {Target.tensorrt_rtx: build_rtx, Target.tensorrt: build_tensorrt}


def build(
    model: Annotated[str, typer.Argument(help="A model directory of flagdit export, a bundle, or demo.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle directory to write.")],
    target: Annotated[Target, typer.Option(help="What the bundle is to run in.")] = Target.onnxruntime,
    sm: Annotated[
        str | None,
        typer.Option(
            help="TensorRT-RTX: compute capabilities, times ten.",
            show_default=f"{ARCHITECTURES}; fp8 {FP8_ARCHITECTURES}",
        ),
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help=PRECISION_HELP)] = None,
    max_size: Annotated[
        str | None, typer.Option(help="Largest WxH the engines serve; the model's own by default.")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=64, help="Most pictures at a time that engines serve.", show_default="1")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="For int8 and fp8 of TensorRT: a text file, one prompt a line, to find the scales of activations on.",
            show_default="4 of the model's examples",
        ),
    ] = None,
) -> None:
    """Build a bundle: everything that runs a model, in one directory.

    [dim]flagdit build MODEL -o BUNDLE --target tensorrt-rtx --sm 86,89,120[/]

    Every bundle runs in ONNX Runtime, in fp32; if its weights were exported as int8, in int8, too, where the CPU can.
    [bold]onnxruntime-cuda[/] adds a graph for any GPU that ONNX Runtime computes on, made here without one.
    [bold]tensorrt-rtx[/] adds engines for RTX GPUs, built here without one; [bold]tensorrt[/] adds engines for the GPU
    of this machine, and is what a Jetson builds for itself. In int8 and fp8 scales of activations are found first, in
    runs on the CPU, and kept in the bundle; how far pictures are then from those in fp32 is said.
    """
    check_precision(target, precision)
    _check_used(target, {"--sm": sm, "--max-size": max_size, "--max-batch": max_batch, "--prompts": prompts})
    if target is Target.onnxruntime:
        manifest = build_bundle(model, output, partial(_for_cpu, precision), check=partial(_check_cpu, precision))
    elif target is Target.onnxruntime_cuda:
        import_ir()
        manifest = build_bundle(model, output, partial(_for_cuda, precision))
    else:
        limits = Limits(size=parse_size(max_size), batch=max_batch or 1)
        default = FP8_ARCHITECTURES if precision is Precision.fp8 else ARCHITECTURES
        options = BuildOptions(architectures(sm or default), _of_gpu(target, precision), limits)
        manifest = _with_engines(model, output, target, options=options, low=_low_build(model, options, prompts))
    _summary(manifest, output)


def check_precision(target: Target, precision: Precision | None) -> None:
    """Raise BuildError unless the target computes in this precision."""
    if precision is not None and precision not in PRECISIONS[target]:
        allowed = ", ".join(PRECISIONS[target])
        raise BuildError(f"{target} does not compute in {precision}; allowed are {allowed}")


def _check_used(target: Target, said: Mapping[str, object]) -> None:
    """Refuse options that a target has no use for: who gives them expects something of them."""
    for name, value in said.items():
        if value is not None and name not in USED[target]:
            others = f"; {', '.join(USED[target])} have one" if USED[target] else ", which runs any size and batch"
            raise BuildError(f"{name} {value} has no part in a bundle for {target}{others}; leave it out")


def _check_cpu(precision: Precision | None, spec: ModelSpec) -> None:
    if precision in (Precision.int8, Precision.int8_bf16):
        check_int8(spec)


def _low_build(model: str, options: BuildOptions, prompts: Path | None) -> LowBuild | None:
    """What comes before engines whose products are in int8 or fp8. Raises BuildError for prompts that others get."""
    if options.low is not None:
        return LowBuild(options.low, model, () if prompts is None else read_prompts(prompts))
    if prompts is not None:
        raise BuildError(f"--prompts has no part in {options.precision}; leave it out, or choose int8 or fp8")
    return None


def _check_gpu(target: Target, options: BuildOptions, low: LowBuild | None, spec: ModelSpec) -> None:
    if target is Target.tensorrt:
        check_device(options)
    if low is not None:
        low.check(spec)
    check_engines(spec, cast(GpuTarget, target.value), options)


def _of_gpu(target: Target, precision: Precision | None) -> GpuPrecision:
    return cast(GpuPrecision, (precision or PRECISIONS[target][0]).value)


def _for_cpu(precision: Precision | None, model_dir: Path, spec: ModelSpec, directory: Path) -> list[Engine]:
    """What was asked for; if nothing was, all that the weights are there for."""
    if precision is Precision.float32 or (precision is None and spec.weights.dtype != "int8"):
        return []
    wanted = CPU_PRECISIONS if precision is None else (cast(CpuPrecision, precision.value),)
    return build_cpu(model_dir, spec, directory, precisions=wanted)


def _for_cuda(precision: Precision | None, model_dir: Path, spec: ModelSpec, directory: Path) -> list[Engine]:
    wanted = precision or PRECISIONS[Target.onnxruntime_cuda][0]
    return build_cuda(model_dir, spec, directory, precision=cast(CudaPrecision, wanted.value), notes=say)


def architectures(text: str) -> tuple[int, ...]:
    """Compute capabilities of a list such as 86,89,120."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BuildError(f"sm {text!r} is not a list of numbers; for instance 86,89,120") from None


def _with_engines(model: str, output: Path, target: Target, *, options: BuildOptions, low: LowBuild | None) -> Manifest:
    if target is Target.tensorrt_rtx:
        check_architectures(options)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=messages, transient=True, disable=not redraws()) as bars:
        tasks: dict[str, TaskID] = {}
        logs: dict[str, Log] = {}

        def progress(graph: str, fraction: float) -> None:
            if graph not in tasks:
                tasks[graph] = bars.add_task(f"{graph} for {target.value}", total=1.0)
                logs[graph] = Log(f"{graph} for {target.value}, percent", 100)
            bars.update(tasks[graph], completed=fraction)
            if not redraws():
                logs[graph].reach(round(100 * fraction))

        def build_engines(model_dir: Path, spec: ModelSpec, directory: Path) -> list[Engine]:
            seen = None if low is None else low.prepare(model_dir, spec, directory, progress)
            built = BUILDERS[target](model_dir, spec, directory, options=options, progress=progress)
            for item in built:
                _describe(item)
            return [with_difference(item.engine, seen) for item in built]

        return build_bundle(model, output, build_engines, check=partial(_check_gpu, target, options, low))


def _describe(built: BuiltEngine) -> None:
    engine, layers = built
    kernels = "" if layers is None else f", {layers.kernels} kernels, {layers.fused_attentions} of them fused attention"
    if layers is not None and layers.low_products:
        kernels += f", {layers.low_products} of {layers.products} products in {engine.precision}"
    say(f"{engine.file}: {engine.precision}, built in {engine.build_seconds:.0f} s{kernels}")


def _summary(manifest: Manifest, output: Path) -> None:
    targets = {engine.target for engine in manifest.engines if engine.target != "onnxruntime"}  # one or none
    where = "".join(" --device cuda" + (f" --backend {t}" if "tensorrt" in t else "") for t in targets)
    size = sum(file.bytes for file in manifest.files.values()) / 2**20
    say(f"wrote {output} ({size:.1f} MiB); next: flagdit generate PROMPT --bundle {output}{where}")
