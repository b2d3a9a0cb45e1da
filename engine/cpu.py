"""What this CPU can do, and which of a bundle's graphs suits it (engines.h)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from operator import index
from typing import Literal, cast

from flagdit import cpp_ext as core
from flagdit.cpp_ext import Cpu, EngineFacts, available_on_cpu, choose_on_cpu, unused_on_cpu
from flagdit.engine.bundle import Engine, Manifest
from flagdit.engine.errors import BackendError

__all__ = ["PRECISIONS", "Precision", "available", "checked_threads", "choose", "facts", "here", "unused"]

Precision = Literal["int8-bf16", "int8", "float32", "float16", "bfloat16", "fp8"]
"""What `denoise` can compute in."""

PRECISIONS: tuple[Precision, ...] = ("int8-bf16", "int8", "float32")
"""On a CPU, fastest first: int8 products with attention in bf16 or in fp32, or fp32."""

MOST = (1 << 63) - 1
"""That the core can be told of; what is more is refused as this is."""


def checked_threads(threads: int) -> int:
    """A number of threads that a backend can be given. Raises BackendError for any other, and for what is no number."""
    try:
        number = index(threads)
    except TypeError:
        raise BackendError(f"threads is {threads!r}; allowed are whole numbers of 1 to 1024") from None
    return core.checked_threads(max(-MOST, min(number, MOST)))


@cache
def here() -> Cpu:
    """This CPU. It multiplies int8 if that is both faster than fp32 and exact; not, if the system does not say."""
    return Cpu.here()


def facts(engines: Iterable[Engine]) -> list[EngineFacts]:
    """What the core chooses engines by."""
    return [EngineFacts(e.graph, e.file, e.target, e.precision, e.architectures) for e in engines]


def unused(engines: Iterable[Engine]) -> list[str]:
    """A line for each reason that some of a bundle's engines cannot run here."""
    return unused_on_cpu(facts(engines), here())


def available(manifest: Manifest) -> tuple[Precision, ...]:
    """The precisions of `denoise` that a bundle has and this CPU is made for, fastest first."""
    return tuple(cast(Precision, name) for name in available_on_cpu(facts(manifest.engines), here()))


def choose(manifest: Manifest, precision: Precision | None) -> Engine | None:
    """The engine that `denoise` runs in, by default the fastest; None is its own graph. Raises BackendError."""
    number = choose_on_cpu(facts(manifest.engines), manifest.model.name, precision, here())
    return None if number is None else manifest.engines[number]
