"""An engine of TensorRT or TensorRT-RTX that is loaded: checked against the manifest, with what its contexts share."""

from __future__ import annotations

import threading
from typing import Any, NoReturn

from flagdit.cpp_ext import DeviceMemory, DeviceStream, Gpu, Port
from flagdit.engine.bundle import Engine
from flagdit.engine.errors import BackendError, BundleError
from flagdit.engine.tensorrt import cache
from flagdit.engine.tensorrt.log import log_of
from flagdit.engine.tensorrt.package import EXTRAS, NAMES, Target, import_trt

VERSIONS = {"tensorrt": ((10, 3), (12, 0)), "tensorrt-rtx": ((1, 7), (2, 0))}
"""Of a target's package, from one on and below another: contexts whose memory is the caller's came with 10.3."""

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


class LoadedEngine:
    """Contexts of it compute in one memory, and run on one stream in turn."""

    def __init__(self, target: Target, engine: Engine, content: bytes | memoryview, ports: list[Port]) -> None:
        """content: of the engine's file, which need not be kept.

        Raises BackendError if there is no GPU or no such package, or if it refuses the engine, BundleError if the
        engine has other inputs and outputs than `ports`.
        """
        trt, gpu = import_trt(target), Gpu.here()
        self.target, self.name, self.trt = target, engine.file, trt
        _check_version(target, trt.__version__)
        if not gpu.name:  # without a driver TensorRT makes a runtime that is neither null nor valid
            reason = f"CUDA finds none ({gpu.reason})" if gpu.kernels else "this build of flagdit has no CUDA kernels"
            raise BackendError(f"{NAMES[target]} needs an NVIDIA GPU: {reason}; use --backend onnxruntime")
        self.log, self.lock, self.stream = log_of(trt), threading.Lock(), DeviceStream()
        self.scratch: DeviceMemory | None = None
        runtime = trt.Runtime(self.log)
        loaded = runtime.deserialize_cuda_engine(content)
        if loaded is None:
            self._refuse(engine, runtime, content, gpu)
        # Let go of in this order: contexts, what they are made with, the engine, its runtime.
        self._config, self.cache = self._configured(loaded, content, gpu)
        self.engine, self._runtime = loaded, runtime
        self._check_ports(ports)

    def fail(self, what: str) -> NoReturn:
        """Raise BackendError with what could not be done, and why TensorRT says it could not."""
        raise BackendError(f"{self.name}: {what}{self.log.taken()}")

    def context(self) -> Any:
        """An execution context whose memory is ours."""
        managed = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self.engine.create_execution_context(managed if self._config is None else self._config)
        if context is None:
            self.fail(f"{NAMES[self.target]} makes no execution context")
        return context

    def scratch_of(self, size: int) -> DeviceMemory:
        """Memory of at least that many bytes, which is the same for all contexts but for smaller ones made before."""
        if self.scratch is None or self.scratch.bytes < size:
            self.scratch = DeviceMemory(size)
        return self.scratch

    def _configured(self, loaded: Any, content: bytes | memoryview, gpu: Gpu) -> tuple[Any, cache.RuntimeCache | None]:
        """How TensorRT-RTX makes contexts, and what it compiles for them; TensorRT has nothing of the kind.

        A kernel that is compiled later would not be the one in a captured graph, so none is; graphs are the core's.
        """
        if self.target != "tensorrt-rtx":
            return None, None
        trt, config = self.trt, loaded.create_runtime_config()
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
        return config, cache.RuntimeCache(config, cache.path_of(content, trt.__version__, gpu))

    def _refuse(self, engine: Engine, runtime: Any, content: bytes | memoryview, gpu: Gpu) -> NoReturn:
        """An engine that was not taken: for whom it was built, who is here, and the command that builds it anew."""
        why = self.log.taken() + _faults(self.trt, runtime, content)
        built = " ".join(map(str, engine.architectures)) or "the GPU that it was built on"
        options = f" --sm {gpu.architecture}" if self.target == "tensorrt-rtx" else ""
        raise BackendError(
            f"{self.name}: {NAMES[self.target]} does not take the engine{why}; it was built by {engine.version} for sm "
            f"{built}, and here are {self.trt.__version__} and sm {gpu.architecture}; build it again with: "
            f"flagdit build MODEL -o BUNDLE --target {self.target}{options}"
        )

    def _check_ports(self, ports: list[Port]) -> None:
        """That the engine has the ports that are said, of these types and sizes, and no others."""
        said, names = {port.name: port for port in ports}, _names(self.engine)
        for name in names:
            if name not in said:
                self._differ(f"{name} is not said")
            self._check_port(said[name])
        if len(names) != len(ports):
            self._differ(f"it has {len(names)} of the {len(ports)} inputs and outputs that are said")

    def _check_port(self, port: Port) -> None:
        trt, engine, name = self.trt, self.engine, port.name
        output = engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
        dtype, shape = (
            DTYPES.get(engine.get_tensor_dtype(name).name, "another type"),
            tuple(engine.get_tensor_shape(name)),
        )
        sizes = all(isinstance(axis, str) or axis == size for axis, size in zip(port.axes, shape, strict=False))
        if (output, dtype, len(shape)) != (port.output, port.dtype, len(port.axes)) or not sizes:
            axes = ", ".join(map(str, port.axes))
            kind = "output" if output else "input"
            self._differ(f"{name} is said to be {port.dtype} ({axes}), and is an {kind} of {dtype} {shape}")
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE or engine.is_shape_inference_io(name):
            self._differ(f"{name} does not lie on the GPU")

    def _differ(self, how: str) -> NoReturn:
        raise BundleError(f"{self.name}: the engine is another than the manifest says: {how}")


def _names(engine: Any) -> list[str]:
    return [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]


def _check_version(target: Target, version: str) -> None:
    least, below = VERSIONS[target]
    try:
        numbers = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        numbers = ()
    if not least <= numbers < below:
        allowed = f"{least[0]}.{least[1]} and later, below {below[0]}"
        extra = EXTRAS[target]
        raise BackendError(f"{NAMES[target]} is {version}; allowed are {allowed}; next: pip install 'flagdit[{extra}]'")


def _faults(trt: Any, runtime: Any, content: bytes | memoryview) -> str:
    """What TensorRT-RTX finds wrong in the head of an engine, such as VERSION_MISMATCH; of TensorRT nothing."""
    ask = getattr(runtime, "get_engine_validity", None)
    if ask is None:
        return ""
    _, bits = ask(bytes(content[: runtime.engine_header_size]))
    kinds = trt.EngineInvalidityDiagnostics.__members__.items()
    found = ", ".join(name for name, kind in kinds if int(kind) & int(bits))
    return f" ({found})" if found else ""
