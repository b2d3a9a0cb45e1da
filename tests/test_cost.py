"""The price of a plan against the published models' figures (bf16, 1024 pixels, 2 rows; models.md §8)."""

from __future__ import annotations

import pytest

from flagdit.cpp_ext import Price, step_flops
from flagdit.engine.cost import price
from flagdit.engine.errors import RequestError
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.plan import make_plan
from flagdit.engine.ras import RasConfig, Solver
from flagdit.export import FlagDiTConfig

FLAG_DIT_5B = FlagDiTConfig()
NEXT_DIT_2B = FlagDiTConfig(dim=2304, n_layers=24, n_kv_heads=8)  # its linears are such


@pytest.mark.parametrize(
    ("model", "tokens", "teraflops"), [(FLAG_DIT_5B, 4160, 74.33), (NEXT_DIT_2B, 4096, 29.57)], ids=["5B", "2B"]
)
def test_dense_step(model: FlagDiTConfig, tokens: int, teraflops: float) -> None:
    """Linear, self- and cross-attention; the text's keys and values are outside the step."""
    assert step_flops(Price(**model.price()), tokens, tokens, rows=2, text=128) / 1e12 == pytest.approx(
        teraflops, rel=2e-3
    )


@pytest.mark.parametrize(("ratio", "bound"), [(0.5, 1.66), (0.25, 2.48), (0.125, 3.29)])
def test_published_bounds_of_30_steps(ratio: float, bound: float) -> None:
    """Flag-DiT 5B, warm-up 4, resets 12 and 22, [nextline] tokens always active."""
    plan = make_plan(RasConfig(ratio=ratio), 30, 4160, pinned=64)
    model = Price(**FLAG_DIT_5B.price())
    dense = step_flops(model, 4160, 4160, 2, 128)
    taken = sum(step_flops(model, step.active, 4160, 2, 128) for step in plan.steps)
    assert 30 * dense / taken == pytest.approx(bound, rel=0.03)


def test_cache_bytes(pipeline: Pipeline) -> None:
    """Keys and values of every layer, row and token, the cached velocity, and what is known of its past."""

    def cache_bytes(ras: RasConfig, solver: Solver = "euler") -> int:
        plan = make_plan(ras, 30, 72, pinned=8, solver=solver)
        return price(pipeline.spec, plan, samples=3, branches=2).cache_bytes

    scalar, values = 72 * 3 * 4, 72 * 3 * 48 * 4
    paper = cache_bytes(RasConfig(mode="paper"))
    assert paper == 2 * 3 * 72 * 6 * 48 * 4 + values
    assert cache_bytes(RasConfig()) == paper + 2 * scalar  # when, and how far off
    assert cache_bytes(RasConfig(), "ab2") == cache_bytes(RasConfig(forecast=1)) == paper + 2 * scalar + values
    assert cache_bytes(RasConfig(forecast=2)) == paper + 3 * scalar + 2 * values


@pytest.mark.parametrize(("solver", "calls"), [("euler", 30), ("ab2", 30), ("midpoint", 60), ("heun", 60)])
def test_every_evaluation_is_priced(pipeline: Pipeline, solver: Solver, calls: int) -> None:
    """... and compared with as many dense ones, so that the ratio is the solver's own."""
    cost = price(pipeline.spec, make_plan(RasConfig(), 30, 72, pinned=8, solver=solver))
    euler = price(pipeline.spec, make_plan(RasConfig(), 30, 72, pinned=8))
    assert len(cost.flops) == calls
    assert sum(cost.flops) == pytest.approx(sum(euler.flops) * calls / 30)
    assert cost.flop_ratio == pytest.approx(euler.flop_ratio)


def test_default_resets_scale_with_the_steps() -> None:
    assert RasConfig().resets_of(30) == [12, 22]
    assert RasConfig().resets_of(10) == [7]
    assert RasConfig().resets_of(14) == [9]
    assert RasConfig().resets_of(5) == []
    assert RasConfig(resets=(5,)).resets_of(30) == [5]


def test_negative_resets_count_from_the_end() -> None:
    assert RasConfig(resets=(-1, 7)).resets_of(30) == [7, 29]
    assert RasConfig(resets=(-1, 9)).resets_of(10) == [9]
    assert [step.dense for step in make_plan(RasConfig(resets=(-1,)), 7, 72, pinned=8).steps] == [True] * 4 + [
        False,
        False,
        True,
    ]
    with pytest.raises(RequestError, match="resets of a plan with 7 steps: got -8"):
        make_plan(RasConfig(resets=(-8,)), 7, 72, pinned=8)
