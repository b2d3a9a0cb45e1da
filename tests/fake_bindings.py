"""NVIDIA's Python bindings as a fake, over the emulator of CUDA: it keeps TensorRT's rules, and computes in ONNX Runtime.

`make` gives a module, as tensorrt or as tensorrt_rtx_bindings. What returns False or None says why to the logger alone,
as there; what would be undefined there is added to `broken` of the module. An "engine" is a graph with its weights
(`plan_of`), computed on the CPU, which is right since the emulator's memory is the host's. Addresses are real ones: in
no build but the emulator's.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import json
import struct
import weakref
from collections.abc import Mapping
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

Callback = ctypes.CFUNCTYPE(None)
HEAD = struct.Struct("<4sQ20s?31x")  # magic, bytes, version, whether its memory is the user's: 64 bytes
ALIGNED = 256
TYPES = {"float32": "FLOAT", "float16": "HALF", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}


def plan_of(
    graph: bytes,
    version: str,
    architectures: tuple[int, ...],
    ports: list[tuple[str, str, tuple[int, ...], bool]],
    profiles: list[dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]],
    *,
    user_allocation: bool = True,
) -> bytes:
    """The bytes of an engine. ports: name, dtype, shape with -1 for open axes, whether it is an output."""
    about = json.dumps({"sm": architectures, "ports": ports, "profiles": profiles}).encode()
    size = HEAD.size + 8 + len(about) + len(graph)
    return HEAD.pack(b"fake", size, version.encode(), user_allocation) + struct.pack("<Q", len(about)) + about + graph


class Plan:
    """What an engine's contexts share."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        _, _, version, self.user_allocation = HEAD.unpack(content[: HEAD.size])
        (length,) = struct.unpack_from("<Q", content, HEAD.size)
        begin = HEAD.size + 8
        about = json.loads(content[begin : begin + length])
        self.version, self.graph, self.sm = version.rstrip(b"\0").decode(), content[begin + length :], about["sm"]
        self.ports = {name: SimpleNamespace(dtype=d, shape=tuple(s), output=o) for name, d, s, o in about["ports"]}
        self.profiles = about["profiles"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])

    def bytes_of(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Of scratch memory for inputs of these shapes: some, and more for more."""
        return 1024 + sum(16 * int(np.prod(shape)) for shape in shapes.values())


def _enumeration(name: str, members: str) -> Any:
    made = IntEnum(name, members, start=0)  # type: ignore[misc]
    made.__str__ = lambda self: f"{name}.{self.name}"
    return made


def make(flavour: str, version: str, architecture: int, calls: Any) -> Any:
    """A module. calls: the core that has the emulator, as ctypes has it."""
    rtx = flavour == "tensorrt-rtx"
    trt: Any = ModuleType("tensorrt_rtx_bindings" if rtx else "tensorrt")
    trt.__spec__ = importlib.machinery.ModuleSpec(trt.__name__, None)
    trt.__version__, trt.architecture, trt.calls = version, architecture, calls
    trt.broken, trt.compiled, trt.log, trt.runs, trt.scratch = [], [], None, 0, set()
    trt.DataType = _enumeration("DataType", "FLOAT HALF BF16 INT32 INT64 BOOL")
    trt.TensorIOMode = _enumeration("TensorIOMode", "NONE INPUT OUTPUT")
    trt.TensorLocation = _enumeration("TensorLocation", "DEVICE HOST")
    trt.ExecutionContextAllocationStrategy = _enumeration(
        "ExecutionContextAllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED"
    )
    trt.ILogger, trt.Runtime = type("ILogger", (ILogger,), {}), _runtime(trt, rtx)
    if rtx:
        trt.EngineValidity = _enumeration("EngineValidity", "VALID SUBOPTIMAL INVALID")
        trt.EngineInvalidityDiagnostics = IntEnum(
            "EngineInvalidityDiagnostics", {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "MALFORMED_ENGINE": 32}
        )
        trt.DynamicShapesKernelSpecializationStrategy = _enumeration("Specialization", "LAZY EAGER NONE")
        trt.CudaGraphStrategy = _enumeration("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE")
    return trt


class ILogger:
    """What a program derives its own logger from."""

    Severity = _enumeration("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class Fake:
    """What every object of a module knows."""

    def __init__(self, trt: Any) -> None:
        self._trt = trt

    def _no(self, why: str) -> bool:
        self._trt.log.log(ILogger.ERROR, f"fake: {why}\nin a file of NVIDIA's")
        return False

    def _must(self, holds: bool, rule: str) -> None:
        if not holds:
            self._trt.broken.append(rule)


def _runtime(trt: Any, rtx: bool) -> Any:
    class Made(Runtime):
        def __init__(self, logger: Any) -> None:
            super().__init__(trt, logger)

    if not rtx:
        return Made

    class MadeRtx(Made):
        engine_header_size = HEAD.size

        def get_engine_validity(self, buffer: Any) -> tuple[Any, int]:
            bits = self._faults(bytes(buffer))
            return (trt.EngineValidity.INVALID if bits else trt.EngineValidity.VALID), bits

    return MadeRtx


class Runtime(Fake):
    """Makes engines, which it outlives."""

    def __init__(self, trt: Any, logger: Any) -> None:
        super().__init__(trt)
        assert isinstance(logger, trt.ILogger)
        if trt.log is None:  # the first one of a process is the only one
            trt.log = logger

    def _faults(self, head: bytes) -> int:
        if len(head) < HEAD.size or head[:4] != b"fake":
            return 32
        return int(HEAD.unpack(head[: HEAD.size])[2].rstrip(b"\0").decode() != self._trt.__version__)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        content = bytes(memoryview(serialized_engine))
        if faults := self._faults(content):
            self._no("the engine is of another version" if faults == 1 else "the magic tag is another")
            return None
        if HEAD.unpack(content[: HEAD.size])[1] != len(content):
            self._no("the engine is cut short")
            return None
        plan = Plan(content)
        if self._trt.architecture not in plan.sm:
            self._no("the engine cannot run on this GPU")
            return None
        kind = RtxEngine if hasattr(self._trt, "CudaGraphStrategy") else ICudaEngine
        return kind(self._trt, plan, weakref.ref(self))


class ICudaEngine(Fake):
    """A plan that is loaded. Contexts do not keep it alive: that is the caller's to do."""

    def __init__(self, trt: Any, plan: Plan, runtime: Any) -> None:
        super().__init__(trt)
        self._plan, self._runtime = plan, runtime

    def __del__(self) -> None:
        self._must(self._runtime() is not None, "a runtime must outlive its engines")

    @property
    def num_io_tensors(self) -> int:
        return len(self._plan.ports)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._plan.profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self._plan.ports)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._trt.TensorIOMode
        return modes.OUTPUT if self._plan.ports[name].output else modes.INPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._trt.DataType[TYPES[self._plan.ports[name].dtype]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._plan.ports[name].shape

    def get_tensor_location(self, name: str) -> Any:
        return self._trt.TensorLocation.DEVICE

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._plan.profiles[profile_index][name]]

    def create_execution_context(self, strategy: Any = 0) -> Any:
        return IExecutionContext(self._trt, self._plan, weakref.ref(self), strategy, None)


class RtxEngine(ICudaEngine):
    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig(self._trt)

    def create_execution_context(self, runtime_config: Any = None) -> Any:  # type: ignore[override]
        if not isinstance(runtime_config, IRuntimeConfig):
            return super().create_execution_context(runtime_config or 0)
        strategy = runtime_config._strategy
        return IExecutionContext(self._trt, self._plan, weakref.ref(self), strategy, runtime_config)


class IRuntimeConfig(Fake):
    """How TensorRT-RTX makes contexts."""

    def __init__(self, trt: Any) -> None:
        super().__init__(trt)
        self._strategy, self._cache = trt.ExecutionContextAllocationStrategy.STATIC, None
        self.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.LAZY
        self.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED

    def set_execution_context_allocation_strategy(self, strategy: Any = 0) -> None:
        self._strategy = strategy

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache(self._trt)

    def set_runtime_cache(self, cache: Any = None) -> bool:
        self._cache = cache
        return True


class IRuntimeCache(Fake):
    """What was compiled for this GPU and version."""

    def __init__(self, trt: Any) -> None:
        super().__init__(trt)
        self._kernels: set[str] = set()

    def _where(self) -> list[Any]:
        return [self._trt.__version__, self._trt.architecture]

    def serialize(self) -> bytearray:
        return bytearray(json.dumps([self._where(), sorted(self._kernels)]).encode())

    def deserialize(self, blob: Any) -> bool:
        try:
            where, kernels = json.loads(bytes(blob))
        except ValueError:
            return self._no("no runtime cache")
        if where != self._where():
            return self._no("a runtime cache of another GPU")
        self._kernels = set(kernels)
        return True


class IExecutionContext(Fake):
    """Shapes and addresses of a call."""

    def __init__(self, trt: Any, plan: Plan, engine: Any, strategy: Any, config: Any) -> None:
        super().__init__(trt)
        self._plan, self._engine, self._config = plan, engine, config
        self._managed = strategy == trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._inferred, self._has_run, self._needed, self._memory = False, False, -1, (0, 0)
        own = weakref.WeakMethod(self._compute)  # so that it goes when its last user lets go, as there
        self._callback = Callback(lambda: own()())  # type: ignore[misc]

    def __del__(self) -> None:
        self._must(self._engine() is not None, "an engine must outlive its contexts")

    def _changed(self) -> bool:
        self._inferred, self._has_run, self._needed = False, False, -1
        return True

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < len(self._plan.profiles):
            return self._no("no such profile")
        self._profile = profile_index
        return self._changed()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert isinstance(shape, tuple)
        if name not in self._plan.ports or self._plan.ports[name].output:
            return self._no("no such input")
        if self._profile is None:
            return self._no("no profile is chosen")
        least, _, most = self._plan.profiles[self._profile][name]
        if len(shape) != len(least) or not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            return self._no(f"{name} is outside of the profile")
        self._shapes[name] = shape
        return self._changed()

    def infer_shapes(self) -> list[str]:
        missing = [name for name, port in self._plan.ports.items() if not port.output and name not in self._shapes]
        self._inferred = not missing
        return missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        shape = self._plan.ports[name].shape
        if not self._inferred:
            return shape
        tokens, rows = self._shapes["tokens"][:2]  # the axes that are open in all that `denoise` makes
        return tuple(size if size >= 0 else (tokens, rows)[min(axis, 1)] for axis, size in enumerate(shape))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._plan.ports:
            return self._no("no such tensor")
        if memory == 0 or memory % ALIGNED:
            return self._no(f"{name}: the pointer must have at least 256-byte alignment")
        self._addresses[name], self._has_run = memory, False
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        if not self._inferred:
            return 0
        self._needed = self._plan.bytes_of(self._shapes)
        return self._needed

    def set_device_memory(self, memory: int, size: int) -> None:
        self._must(self._managed, "memory is given to a context that has its own")
        self._must(memory % ALIGNED == 0, "the memory of a context must be aligned")
        self._memory = (memory, size)
        self._trt.scratch.add(memory)

    def _captures(self, stream: int) -> bool:
        return self._trt.calls.emulator_captures(ctypes.c_void_p(stream)) != 0

    def _obstacle(self, stream: int) -> str:
        missing = [name for name in self._plan.ports if name not in self._addresses]
        if not self._inferred:
            return "shapes are not inferred"
        if missing:
            return f"{missing[0]} has no address"
        if stream == 0:
            return "the default stream would be synchronised"
        if self._managed and (self._memory[0] == 0 or self._memory[1] < self._needed):
            return "too little memory"
        if self._captures(stream) and not (self._has_run and self._plan.user_allocation):
            return "operation not permitted when stream is capturing"
        return ""

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._must(not self._managed or self._needed >= 0, "the size of memory was not asked for since the last shape")
        self._must(self._engine() is not None, "an engine must outlive its contexts")
        if why := self._obstacle(stream_handle):
            return self._no(why)
        if not self._has_run:
            self._compile()
        self._has_run = True
        self._trt.calls.emulator_call(self._callback, ctypes.c_void_p(stream_handle))
        return True

    def _compile(self) -> None:
        """Of TensorRT-RTX: once for a shape, in whatever process."""
        if self._config is None:
            return
        kernel = json.dumps(self._shapes)
        known = set() if self._config._cache is None else self._config._cache._kernels
        if kernel not in known:
            self._trt.compiled.append(kernel)
            known.add(kernel)

    def is_stream_capturable(self, stream: int) -> bool:
        lazy = self._trt.DynamicShapesKernelSpecializationStrategy.LAZY
        eager = self._config is not None and self._config.dynamic_shapes_kernel_specialization_strategy != lazy
        return self._has_run and self._plan.user_allocation and eager

    def _view(self, name: str) -> np.ndarray:
        shape, dtype = self.get_tensor_shape(name), np.dtype(self._plan.ports[name].dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        if size == 0:
            return np.empty(shape, dtype)
        memory = (ctypes.c_char * size).from_address(self._addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)

    def _compute(self) -> None:
        """When the stream gets there: the memory of contexts is anything afterwards."""
        if self._managed:
            ctypes.memset(self._memory[0], 0x5A, self._needed)
        self._trt.runs += 1
        names = [name for name, port in self._plan.ports.items() if port.output]
        inputs = {name: self._view(name) for name, port in self._plan.ports.items() if not port.output}
        for name, values in zip(names, self._plan.session.run(names, inputs), strict=True):
            self._view(name)[...] = values
