"""What a plan costs before it runs: FLOPs of its steps and bytes of its caches (models.md §8)."""

from __future__ import annotations

from collections.abc import Sequence

from flagdit import cpp_ext
from flagdit.cpp_ext import Cost, Plan, Price, Sizes
from flagdit.engine.manifest import Layers, ModelSpec

__all__ = ["Cost", "price", "price_of", "sizes_of", "step_flops"]

TEXT_TOKENS = 32
"""Of a model that comes without a text encoder."""


def price_of(layers: Layers, patch_values: int) -> Price:
    """What an evaluation costs by its tokens: linear layers, and attention to the tokens and the text."""
    d_kv = layers.width // layers.heads * layers.kv_heads
    linear = 2 * layers.width**2 + 2 * layers.width * d_kv + 3 * layers.width * layers.ffn
    token = 2 * (layers.count * linear + 2 * patch_values * layers.width)
    return Price(token=token, pair=4 * layers.count * layers.width)


def sizes_of(spec: ModelSpec) -> Sizes:
    """The numbers of a model that prices and the estimate of memory are made of."""
    layers, patch = spec.layers, spec.latent.channels * spec.tokens.patch_size**2
    d_kv = layers.width // layers.heads * layers.kv_heads
    return Sizes(
        price=price_of(layers, patch),
        parameters=spec.weights.parameters,
        width=layers.width,
        hidden=layers.ffn,
        heads=layers.heads,
        keys=d_kv,
        patch=patch,
        place=spec.rope.head_dim,
        cached=2 * layers.count * d_kv,
        text=spec.text.max_tokens if spec.text is not None else TEXT_TOKENS,
        text_values=2 * layers.count * d_kv,
        step_values=(6 * layers.count + 2) * layers.width,
    )


def step_flops(layers: Layers, active: int, tokens: int, rows: int, text: int, patch_values: int) -> float:
    """FLOPs (2 per multiply-add) of one evaluation: `active` queries over `tokens` keys and `text` text keys."""
    return cpp_ext.step_flops(price_of(layers, patch_values), active, tokens, rows, text)


def price(
    spec: ModelSpec,
    plan: Plan,
    samples: int = 1,
    branches: int = 2,
    text: int = 32,
    value_bytes: int = 4,
    taken: Sequence[tuple[int, int]] | None = None,
) -> Cost:
    """Price a plan; `text` is the number of text tokens, `value_bytes` the size of a cached value.

    taken: tokens and branches that each step computed, where a run may differ from its plan (RasConfig.error_budget,
        gate).
    """
    return cpp_ext.price(sizes_of(spec), plan, samples, branches, text, value_bytes, taken)
