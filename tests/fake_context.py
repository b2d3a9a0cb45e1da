"""Execution contexts of the fake of NVIDIA's bindings (fake_bindings.py), where most of TensorRT's rules are."""

from __future__ import annotations

import ctypes
import json
import weakref
from typing import Any

import numpy as np
from fake_plan import Fake, Plan

Callback = ctypes.CFUNCTYPE(None)
ALIGNED = 256


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
        asked = not self._managed or self._needed >= 0
        if not self._must(asked, "the size of memory was not asked for since the last shape"):
            return False  # there it would run, in too little memory
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


class RtxContext(IExecutionContext):
    """TensorRT-RTX's, which also says what can be captured."""

    def is_stream_capturable(self, stream: int) -> bool:
        lazy = self._trt.DynamicShapesKernelSpecializationStrategy.LAZY
        eager = self._config is not None and self._config.dynamic_shapes_kernel_specialization_strategy != lazy
        return self._has_run and self._plan.user_allocation and eager
