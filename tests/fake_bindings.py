"""NVIDIA's Python bindings as a fake, over the emulator of CUDA: TensorRT's rules, and values of ONNX Runtime.

`make` gives a module, as tensorrt or as tensorrt_rtx_bindings. What returns False or None says why to the logger alone,
as there; what would be undefined there is added to `broken` of the module. An "engine" is a graph with its weights
(fake_plan.py), computed on the CPU, which is right since the emulator's memory is the host's. Addresses are real ones:
in no build but the emulator's.
"""

from __future__ import annotations

import importlib.machinery
import json
import weakref
from enum import IntEnum
from types import ModuleType
from typing import Any

from fake_context import IExecutionContext, RtxContext
from fake_plan import HEAD, Fake, ILogger, Plan, enumeration

TYPES = {"float32": "FLOAT", "float16": "HALF", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}


def make(flavour: str, version: str, architecture: int, calls: Any) -> Any:
    """A module. calls: the core that has the emulator, as ctypes has it."""
    rtx = flavour == "tensorrt-rtx"
    trt: Any = ModuleType("tensorrt_rtx_bindings" if rtx else "tensorrt")
    trt.__spec__ = importlib.machinery.ModuleSpec(trt.__name__, None, origin="a fake")
    trt.__version__, trt.architecture, trt.calls = version, architecture, calls
    trt.broken, trt.compiled, trt.log, trt.runs, trt.scratch = [], [], None, 0, set()
    trt.DataType = enumeration("DataType", "FLOAT HALF BF16 INT32 INT64 BOOL")
    trt.TensorIOMode = enumeration("TensorIOMode", "NONE INPUT OUTPUT")
    trt.TensorLocation = enumeration("TensorLocation", "DEVICE HOST")
    trt.ExecutionContextAllocationStrategy = enumeration(
        "ExecutionContextAllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED"
    )
    trt.ILogger, trt.Runtime = type("ILogger", (ILogger,), {}), _runtime(trt, rtx)
    if rtx:
        trt.EngineValidity = enumeration("EngineValidity", "VALID SUBOPTIMAL INVALID")
        trt.EngineInvalidityDiagnostics = IntEnum(
            "EngineInvalidityDiagnostics", {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "MALFORMED_ENGINE": 32}
        )
        trt.DynamicShapesKernelSpecializationStrategy = enumeration("Specialization", "LAZY EAGER NONE")
        trt.CudaGraphStrategy = enumeration("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE")
    return trt


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
        config = runtime_config if isinstance(runtime_config, IRuntimeConfig) else None
        strategy = runtime_config or 0 if config is None else config._strategy
        return RtxContext(self._trt, self._plan, weakref.ref(self), strategy, config)


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
