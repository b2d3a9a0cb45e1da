"""An execution context for one shape, with memory that is bound to it: runs, and is captured, as often as wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from flagdit.engine.errors import BackendError, BundleError
from flagdit.engine.tensorrt.engine import LoadedEngine
from flagdit.engine.tensorrt.package import NAMES

ALIGNED = 256
"""Bytes that addresses are multiples of."""

Shape = tuple[int, ...]


class Placed(NamedTuple):
    """An array on the GPU."""

    address: int
    dtype: str
    shape: Shape


class TensorRtBinding:
    """See flagdit.cpp_ext.Binding. Made, placed and run by one thread at a time."""

    def __init__(self, loaded: LoadedEngine, inputs: Mapping[str, Placed]) -> None:
        """For inputs of these shapes; `place` says where all else is. Raises BackendError if no profile allows them."""
        profile = _profile_of(loaded, inputs)
        self._context, self._loaded = loaded.context(), loaded  # let go of in this order
        self._scratch: Any = None
        self._memory: Any = None
        self._has_run, self._capturable = False, loaded.target == "tensorrt"
        if not self._context.set_optimization_profile_async(profile, loaded.stream.number):
            loaded.fail(f"{self._name} does not take profile {profile}")
        loaded.stream.wait()
        for name, placed in inputs.items():
            if not self._context.set_input_shape(name, placed.shape):
                loaded.fail(f"{self._name} does not take {name} of {placed.shape}; {_allowed(loaded, name, profile)}")
        if missing := self._missing():
            loaded.fail(f"{self._name} does not know the shape of {', '.join(missing)}")

    def shape_of(self, name: str) -> Shape:
        """Of an input, or of an output that these inputs make."""
        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            self._loaded.fail(f"{name} has no shape")
        return shape

    def place(self, arrays: Mapping[str, Placed], memory: Any) -> None:
        """Say where all inputs and outputs are. memory: what keeps them, which this keeps."""
        loaded, self._memory = self._loaded, memory
        for name, placed in arrays.items():
            if placed.shape != (shape := self.shape_of(name)):
                raise BundleError(f"{loaded.name}: {name} is {shape} for these inputs; got {placed.shape}")
            if placed.address == 0 or placed.address % ALIGNED:
                self._misplaced(name, placed.address)
            if not self._context.set_tensor_address(name, placed.address):
                loaded.fail(f"{self._name} does not take the address of {name}, {placed.address:#x}")
        self._scratch = loaded.scratch_of(self._context.update_device_memory_size_for_shapes())
        self._context.set_device_memory(self._scratch.address, self._scratch.bytes)

    def run(self) -> None:
        """Enqueue it on the stream of the session."""
        stream = self._loaded.stream
        if not self._has_run and stream.captures:
            raise BackendError(
                f"{self._loaded.name}: is captured before it has run; run a binding once before a graph of it is made"
            )
        if not self._context.execute_async_v3(stream.number):
            self._loaded.fail(f"{self._name} does not run it")
        self._has_run = True

    @property
    def settled(self) -> bool:
        """Whether it can be captured now."""
        if self._has_run and not self._capturable:
            self._capturable = self._context.is_stream_capturable(self._loaded.stream.number)
        return self._has_run and self._capturable

    @property
    def _name(self) -> str:
        return NAMES[self._loaded.target]

    def _missing(self) -> list[str]:
        try:
            return list(self._context.infer_shapes())
        except RuntimeError as error:
            self._loaded.fail(f"{self._name} knows no shapes of outputs: {error}")

    def _misplaced(self, name: str, address: int) -> NoReturn:
        where = f"{address % ALIGNED} bytes off its place" if address else "at no address"
        raise BackendError(
            f"{self._loaded.name}: {name} is {where}; {self._name} allows addresses that are multiples of 256 bytes"
        )


def _profile_of(loaded: LoadedEngine, inputs: Mapping[str, Placed]) -> int:
    """The first profile that all inputs are within."""
    outside = []
    for profile in range(loaded.engine.num_optimization_profiles):
        wrong = [name for name in inputs if not _within(inputs[name].shape, loaded, name, profile)]
        if not wrong:
            return profile
        outside.append(wrong[0])
    if not outside:
        loaded.fail("the engine has no profile")
    name = outside[0]
    raise BackendError(
        f"{loaded.name}: {name} is {inputs[name].shape}; {_allowed(loaded, name, 0)}; build it again for this size"
    )


def _limits(loaded: LoadedEngine, name: str, profile: int) -> tuple[Shape, Shape]:
    least, _, most = loaded.engine.get_tensor_profile_shape(name, profile)
    return tuple(least), tuple(most)


def _within(shape: Shape, loaded: LoadedEngine, name: str, profile: int) -> bool:
    least, most = _limits(loaded, name, profile)
    if len(shape) != len(least):
        return False
    return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))


def _allowed(loaded: LoadedEngine, name: str, profile: int) -> str:
    least, most = _limits(loaded, name, profile)
    return f"the engine's profile allows {least} to {most}"
