"""A session that runs an engine of TensorRT or TensorRT-RTX: what cpp_ext/backends/tensorrt*.cpp is for C++.

The core enqueues on the session's stream, gives arrays on the GPU and captures what has run once.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import ArrayView, DeviceMemory, Port
from flagdit.cpp_ext.arrays import Array
from flagdit.engine.bundle import Engine
from flagdit.engine.errors import BundleError
from flagdit.engine.tensorrt.binding import Placed, TensorRtBinding
from flagdit.engine.tensorrt.engine import LoadedEngine
from flagdit.engine.tensorrt.package import Target

LENGTHS = 16
"""That texts are filled up to multiples of: each length is a shape of its own, and TensorRT-RTX compiles for each."""


class TensorRtSession:
    """See flagdit.cpp_ext.Session: a graph that is loaded; threads may share it."""

    device = "cuda"

    def __init__(self, target: Target, engine: Engine, content: bytes | memoryview, ports: list[Port]) -> None:
        """content: of the engine's file, which need not be kept. ports: as the manifest has them.

        Raises BackendError if TensorRT is not installed or refuses the engine, BundleError if its ports are others.
        """
        self._loaded = LoadedEngine(target, engine, content, ports)
        self.ports, self.name, self.backend, self.precision = ports, engine.file, target, engine.precision
        self.stream, self.lengths = self._loaded.stream.number, _lengths(engine)
        if self._loaded.cache is not None:
            weakref.finalize(self, self._loaded.cache.keep)

    def bind(self, arrays: Mapping[str, Array]) -> TensorRtBinding:
        """All inputs and outputs on the GPU by name. Raises BundleError or BackendError if they do not fit."""
        placed = {}
        for name, array in arrays.items():
            view = ArrayView(name, array)
            placed[name] = self._checked(name, Placed(view.address, view.dtype, view.shape), view.device)
        self._check_given(placed, (False, True))
        with self._loaded.lock:
            if self._loaded.cache is not None:
                self._loaded.cache.keep()  # what was compiled for the shapes before
            binding = TensorRtBinding(self._loaded, self._inputs(placed))
            binding.place(placed, arrays)
        return binding

    def run(self, inputs: Mapping[str, Array]) -> dict[str, npt.NDArray[Any]]:
        """Once, with arrays of NumPy that go to the GPU and come back; bits of bfloat16 are in uint16."""
        memory: dict[str, DeviceMemory] = {}
        placed: dict[str, Placed] = {}

        def put(name: str, values: npt.NDArray[Any], dtype: str) -> None:
            memory[name] = DeviceMemory(values.nbytes)
            placed[name] = Placed(memory[name].address, dtype, values.shape)

        for name, array in inputs.items():
            values = np.ascontiguousarray(cast(Any, array))
            put(name, values, self._dtype(name, values))
            self._checked(name, placed[name], self.device)
            memory[name].write(values, self.stream)
        self._check_given(placed, (False,))
        made = {}
        with self._loaded.lock:
            binding = TensorRtBinding(self._loaded, placed)
            for port in self.ports:
                if port.output:
                    made[port.name] = np.empty(binding.shape_of(port.name), _stored(port.dtype))
                    put(port.name, made[port.name], port.dtype)
            binding.place(placed, memory)
            binding.run()
        for name, values in made.items():
            memory[name].read(values, self.stream)
        return made

    def _inputs(self, placed: Mapping[str, Placed]) -> dict[str, Placed]:
        return {port.name: placed[port.name] for port in self.ports if not port.output}

    def _port(self, name: str) -> Port:
        for port in self.ports:
            if port.name == name:
                return port
        raise BundleError(f"{self.name} has no input or output {name}")

    def _dtype(self, name: str, values: npt.NDArray[Any]) -> str:
        """What an array of NumPy holds."""
        said = self._port(name).dtype
        return said if _stored(said) == values.dtype else str(values.dtype)

    def _checked(self, name: str, placed: Placed, device: str) -> Placed:
        port = self._port(name)
        if (placed.dtype, len(placed.shape), device) != (port.dtype, len(port.axes), self.device):
            axes = ", ".join(map(str, port.axes))
            raise BundleError(
                f"{self.name}: {name} is {port.dtype} ({axes}) on {self.device}; "
                f"got {placed.dtype} {placed.shape} on {device}"
            )
        return placed

    def _check_given(self, given: Mapping[str, Placed], kinds: tuple[bool, ...]) -> None:
        for port in self.ports:
            if port.output in kinds and port.name not in given:
                raise BundleError(f"{self.name}: {port.name} is not bound")


def _stored(dtype: str) -> np.dtype[Any]:
    """What NumPy keeps such values in."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def _lengths(engine: Engine) -> int:
    """What texts are filled up to, if the longest that the engine takes still fits then."""
    most = {
        length
        for profile in engine.profiles
        for tensor in engine.inputs
        if tensor.name in profile
        for letter, length in zip(tensor.shape, profile[tensor.name].max, strict=False)
        if letter == "T"
    }
    return 1 if any(length % LENGTHS for length in most) else LENGTHS
