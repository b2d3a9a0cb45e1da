"""What a plan costs before it runs: FLOPs of its steps and bytes of its caches (models.md §8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flagdit.engine.manifest import Layers, ModelSpec
from flagdit.engine.plan import Plan


@dataclass(frozen=True)
class Cost:
    """Price of a plan for one model."""

    flops: list[float]  # of every evaluation
    dense_flops: float  # of a dense one at the full size
    cache_bytes: int

    @property
    def flop_ratio(self) -> float:
        """FLOPs of the plan over those of as many dense evaluations: of dense sampling with the same solver."""
        return sum(self.flops) / (self.dense_flops * len(self.flops))

    @property
    def expected_speedup(self) -> float:
        """What the plan gains if time follows FLOPs: the bound a run is measured against."""
        return 1 / self.flop_ratio

    def after(self, coarse: Cost) -> Cost:
        """This one's and that of the coarse steps before it, whose caches are gone by then."""
        cache_bytes = max(coarse.cache_bytes, self.cache_bytes)
        return Cost(coarse.flops + self.flops, self.dense_flops, cache_bytes)


def step_flops(layers: Layers, active: int, tokens: int, rows: int, text: int, patch_values: int) -> float:
    """FLOPs (2 per multiply-add) of one evaluation: `active` queries over `tokens` keys and `text` text keys."""
    d_kv = layers.width // layers.heads * layers.kv_heads
    linear = 2 * layers.width**2 + 2 * layers.width * d_kv + 3 * layers.width * layers.ffn
    attention = 2 * (tokens + text) * layers.width
    per_token = layers.count * (linear + attention) + 2 * patch_values * layers.width
    return 2.0 * rows * active * per_token


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
    rows = samples * branches
    patch_values = spec.latent.channels * spec.tokens.patch_size**2

    def flops(active: int, branches: int) -> float:
        return step_flops(spec.layers, active, plan.tokens, samples * branches, text, patch_values)

    d_kv = spec.layers.width // spec.layers.heads * spec.layers.kv_heads
    keys_values = 2 * spec.layers.count * plan.tokens * rows * d_kv * value_bytes
    velocity = plan.tokens * samples * patch_values * 4
    scalar, keeps = plan.tokens * samples * 4, plan.keeps
    history = 2 * scalar * keeps.rate + velocity * keeps.slope + (velocity + scalar) * keeps.curve
    apart = keeps.difference and branches > 1
    difference = velocity * apart
    slopes = 2 * keys_values // value_bytes  # in bfloat16
    past = (keys_values + slopes + scalar * (branches if apart else 1)) * keeps.cache_slope
    if taken is None:
        both = zip(plan.steps, plan.unconditional, strict=True)
        taken = [(step.active, branches if unconditional else 1) for step, unconditional in both]
    calls = [flops(*taken[evaluation.step]) for evaluation in plan.evaluations]
    return Cost(calls, flops(plan.tokens, branches), keys_values + past + velocity + history + difference)
