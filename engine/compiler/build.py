"""One graph -> one engine file, with what the Python APIs of TensorRT and TensorRT-RTX have in common.

TensorRT's builder may crash the process (it does for some graphs, see docs/tensorrt.md), holds several times the
weights in memory and listens only to the first logger of a process. So `build` runs in a process of its own:
call it through `process.build_apart`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from flagdit.engine.bundle import Profile, Spec, Tensor
from flagdit.engine.bundle.ports import letter
from flagdit.engine.compiler.hooks import make_log, make_monitor
from flagdit.engine.compiler.int8_weights import fold_int8
from flagdit.engine.compiler.layers import LayerReport, read_layers
from flagdit.engine.compiler.plain import to_plain
from flagdit.engine.compiler.precision import Half, import_ir, to_half
from flagdit.engine.compiler.quantised import HALF, to_quantised
from flagdit.engine.compiler.scales import Low, Scales, read_scales
from flagdit.engine.errors import BuildError
from flagdit.engine.machine import peak_bytes
from flagdit.engine.tensorrt.package import NAMES, Target, import_trt
from flagdit.files.errors import refusals

if TYPE_CHECKING:
    import onnx_ir as ir

Precision = Literal["float32", "float16", "bfloat16", "int8", "fp8"]
LOW: tuple[Low, ...] = get_args(Low)


class Job(Spec):
    """One engine to build: the ONNX file `graph`, its external data beside it, into the file `output`.

    architectures: compute capabilities times ten to compile for; None is the device at hand. scales: the file of them,
    for products in int8 or fp8.
    """

    target: Target
    graph: Path
    output: Path
    precision: Precision
    profile: dict[str, Profile]
    architectures: tuple[int, ...] | None = None
    scales: Path | None = None


class Built(Spec):
    """What was built, and what it took. `layers` is None if the builder listed none."""

    version: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    seconds: float
    peak_bytes: int | None
    layers: LayerReport | None


def build(job: Job, progress: Callable[[float], None]) -> Built:
    """Write `job.output`.

    Raises BackendError if the bindings are missing, BuildError if TensorRT refuses, OutputError if the disk does.
    """
    trt = import_trt(job.target)
    start = time.monotonic()
    scales = None if job.scales is None else read_scales(job.scales)
    model = read_graph(job.graph, job.precision, plain=needs_plain(job.target, trt.__version__), scales=scales)
    log = make_log(trt)
    builder = trt.Builder(log)
    network = parse(trt, log, builder, model=model, job=job)
    config = configure(trt, builder, network, job=job)
    monitor = make_monitor(trt, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"{job.graph.name}: {NAMES[job.target]} {trt.__version__} built no engine")
    with refusals(job.output):
        job.output.write_bytes(memoryview(plan))
    return Built(
        version=trt.__version__,
        inputs=describe(model.graph.inputs),
        outputs=describe(model.graph.outputs),
        seconds=round(time.monotonic() - start, 2),
        peak_bytes=peak_bytes(),
        layers=read_layers(log.layers),
    )


def needs_plain(target: Target, version: str) -> bool:
    """Whether a parser of that version knows no operators of opset 23; by NVIDIA's notes TensorRT does from 10.15."""
    return target == "tensorrt" and tuple(map(int, version.split(".")[:2])) < (10, 15)


def read_graph(path: Path, precision: Precision, *, plain: bool = False, scales: Scales | None = None) -> ir.Model:
    """The graph in its precision; weights stay in the file they are in. plain: see to_plain.

    scales: of products in int8 or fp8.
    """
    model: ir.Model = import_ir().load(path)
    fold_int8(model)
    if precision in LOW:
        if scales is None:
            raise BuildError(f"{path.name}: {precision} needs scales")
        to_quantised(model, precision, scales)
        to_half(model, HALF)
    elif precision != "float32":
        to_half(model, cast(Half, precision))
    if plain:
        to_plain(model)
    return model


def parse(trt: Any, log: Any, builder: Any, *, model: ir.Model, job: Job) -> Any:
    """The network of `model`, with the types that the graph says. Raises BuildError with the parser's reasons."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    content = import_ir().to_proto(model).SerializeToString()
    if not parser.parse(content, str(job.graph)):  # the path is where external data is looked up
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = "; ".join(f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors)
        raise BuildError(f"{job.graph.name}: {NAMES[job.target]} {trt.__version__} cannot read it ({reasons})")
    if job.precision == "float32":
        let_attentions_decompose(trt, network)
    return network


def let_attentions_decompose(trt: Any, network: Any) -> None:
    """In fp32 no fused attention exists, and without this the builder refuses instead of composing it."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # the bindings return the base class
            layer.attention.decomposable = True


def configure(trt: Any, builder: Any, network: Any, *, job: Job) -> Any:
    """The builder's configuration. Raises BuildError if TensorRT refuses an architecture or a shape."""
    config = builder.create_builder_config()
    if job.target == "tensorrt-rtx":
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # without it no CUDA graph can be captured
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # names the kernels, for the layer report
    if job.precision == "float32":
        config.clear_flag(trt.BuilderFlag.TF32)  # it would round to ten bits what was asked for in 23
    if job.architectures is not None:
        config.num_compute_capabilities = len(job.architectures)
        for index, number in enumerate(job.architectures):
            if not config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{number}"), index):
                raise BuildError(f"{NAMES[job.target]} {trt.__version__} does not compile for sm_{number}")
    add_profile(builder, network, config, job=job)
    return config


def add_profile(builder: Any, network: Any, config: Any, *, job: Job) -> None:
    profile = builder.create_optimization_profile()
    names = {network.get_input(i).name for i in range(network.num_inputs)}
    if names != set(job.profile):
        wrong = ", ".join(sorted(names ^ set(job.profile)))
        raise BuildError(f"{job.graph.name}: its inputs are not those of model.json ({wrong}); export the model again")
    for name, shape in job.profile.items():
        try:
            profile.set_shape(name, shape.min, shape.opt, shape.max)
        except ValueError as error:  # the bindings raise what C++ returns as false
            raise BuildError(f"{job.graph.name}: {name}: shapes {shape} refused ({error})") from None
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"{job.graph.name}: shape profile refused: {job.profile}")


def describe(values: Any) -> tuple[Tensor, ...]:
    """Names, types and symbolic axes of a graph's inputs or outputs."""
    return tuple(
        Tensor(name=v.name, dtype=v.dtype.numpy().name, shape=[letter(axis) for axis in v.shape]) for v in values
    )
