"""What a plan costs before it runs: FLOPs of its steps and bytes of its caches (price.h)."""

from __future__ import annotations

from collections.abc import Sequence

from flagdit import cpp_ext
from flagdit.cpp_ext import Cost, Plan, Price, Sizes
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.bundle.ports import begins, cached_values, caches, constants, timed

__all__ = ["Cost", "head_multiple_of", "price", "sizes_of"]

TEXT_TOKENS = 32
"""Of a model that comes without a text encoder."""


def sizes_of(spec: ModelSpec) -> Sizes:
    """The numbers of a model that prices and the estimate of memory are made of."""
    sizes, one = spec.sizes, {"R": 1, "S": 1, "T": 1}
    return Sizes(
        price=Price(**spec.price.model_dump()),
        parameters=spec.weights.parameters,
        width=sizes.width,
        hidden=sizes.hidden,
        heads=sizes.heads,
        keys=sizes.kv_heads * sizes.head,
        patch=spec.patch_values,
        place=sizes.head,
        cached=cached_values(spec.graphs.denoise.inputs),
        text=sizes.text or spec.text_tokens or TEXT_TOKENS,
        text_cached=sum(port.values({"T": 1, "R": 1}) for port in spec.graphs.denoise.outputs if begins(port, "T")),
        text_values=sum(port.values(one) for port in constants(spec.graphs.condition)),
        step_values=sum(port.values(one) for port in timed(spec.graphs.condition)),
    )


def head_multiple_of(spec: ModelSpec) -> int:
    """What the active tokens of a step are a multiple of, so that tails of caches begin at multiples of 256 bytes."""
    return cpp_ext.head_multiple([port.values({"M": 1, "R": 1}) for port in caches(spec.graphs.denoise.inputs)])


def price(
    spec: ModelSpec,
    plan: Plan,
    samples: int = 1,
    *,
    branches: int = 2,
    text: int | None = None,
    value_bytes: int = 4,
    taken: Sequence[tuple[int, int]] | None = None,
) -> Cost:
    """Price a plan; `value_bytes` is the size of a cached value.

    text: tokens of a text; None is those of every text, if the model says so, and else 32.
    taken: tokens and branches that each step computed, where a run may differ from its plan (RasConfig.error_budget,
        gate).
    """
    text = (spec.sizes.text or TEXT_TOKENS) if text is None else text
    return cpp_ext.price(sizes_of(spec), plan, samples, branches, text, value_bytes, taken)
