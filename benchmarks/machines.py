"""Where a benchmark of the core has its arrays, and how it takes time there."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flagdit.cpp_ext import GraphCache

MIB = 2**20
Launch = Callable[[int, int], None]  # (number of the launch, stream)


class Machine(Protocol):
    """Where the arrays are, and how time is taken there."""

    name: str
    dtypes: tuple[str, ...]
    memory: int  # bytes

    def array(self, shape: tuple[int, ...], dtype: str = "float32") -> Any:
        """Random numbers, or zeros if the dtype is of integers."""

    def put(self, array: NDArray[Any]) -> Any: ...
    def get(self, array: Any) -> NDArray[Any]: ...

    def seconds(self, launch: Launch, before: Callable[[], object]) -> float:
        """Of one launch, of many made in turn after before()."""

    def copy_seconds(self, size: int) -> float:
        """Of a copy of so many bytes."""


class Cpu:
    """NumPy's arrays and the clock on the wall: the median of some launches."""

    dtypes: tuple[str, ...] = ("float32",)  # advance computes in no other on a CPU

    def __init__(self, launches: int) -> None:
        self.name, self._launches = platform.processor() or platform.machine(), launches
        self.memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def array(self, shape: tuple[int, ...], dtype: str = "float32") -> NDArray[Any]:
        if dtype != "float32":
            return np.zeros(shape, dtype)
        return np.random.default_rng(0).random(shape, np.float32)

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def get(self, array: Any) -> NDArray[Any]:
        return np.asarray(array)

    def seconds(self, launch: Launch, before: Callable[[], object]) -> float:
        before()
        times = []
        for number in range(self._launches + 1):
            start = time.perf_counter()
            launch(number, 0)
            times.append(time.perf_counter() - start)
        return median(times[1:])  # the first warms up

    def copy_seconds(self, size: int) -> float:
        source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
        return self.seconds(lambda *_: np.copyto(target, source), lambda: None)


class Cuda:
    """Torch's arrays and CUDA's events: the mean of many launches in one graph."""

    dtypes: tuple[str, ...] = ("float32", "float16", "bfloat16")

    def __init__(self, launches: int) -> None:
        import torch

        self.name, self._launches, self._torch = torch.cuda.get_device_name(), launches, torch
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.memory = torch.cuda.mem_get_info()[0]

    def array(self, shape: tuple[int, ...], dtype: str = "float32") -> Any:
        kind = getattr(self._torch, dtype)
        if not kind.is_floating_point:
            return self._torch.zeros(shape, dtype=kind, device="cuda")
        return self._torch.rand(shape, dtype=kind, device="cuda")

    def put(self, array: NDArray[Any]) -> Any:
        return self._torch.from_numpy(array).cuda()

    def get(self, array: Any) -> NDArray[Any]:
        copy: NDArray[Any] = array.cpu().numpy()
        return copy

    def seconds(self, launch: Launch, before: Callable[[], object]) -> float:
        torch, stream, cache = self._torch, self._stream, GraphCache(1)

        def record() -> None:
            for number in range(self._launches):
                launch(number, stream.cuda_stream)

        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(2):  # the first warms up
            before()
            torch.cuda.synchronize()
            start.record(stream)
            cache.run(0, stream.cuda_stream, record)
            end.record(stream)
            torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1e3 / self._launches

    def copy_seconds(self, size: int) -> float:
        torch = self._torch
        source, target = (torch.ones(size, dtype=torch.uint8, device="cuda") for _ in range(2))

        def copy(_: int, stream: int) -> None:
            with torch.cuda.stream(self._stream):
                target.copy_(source, non_blocking=True)

        return self.seconds(copy, lambda: None)
