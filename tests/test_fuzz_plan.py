"""Plans from any numbers: refused in words, or a plan that holds what it says."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fuzz import CASES, FLOATS, INTEGERS, PARTS, rng_of

from flagdit.cpp_ext import (
    GraphCache,
    Step,
    flow_times,
    least_max_age,
    philox,
    plan_evaluations,
    plan_steps,
    refresh_capacity,
)

GOOD = {"tokens": 20, "pinned": 2, "ratio": 0.5, "warmup": 1, "resets": [3], "bucket": 1, "end": 5, "skip_step": 0}
GOOD |= {"skip_every": 0, "high_ratio": 0.5, "mode": "corrected"}
COUNTS = (*INTEGERS, 2**64, 4, 7)


def mostly(rng: random.Random, good: Any, others: Sequence[Any] = COUNTS) -> Any:
    return good if rng.random() < 0.8 else rng.choice(others)


def times(rng: random.Random) -> list[float]:
    even = [i / 8 for i in range(9)]
    if rng.random() < 0.2:
        even[rng.randrange(9)] = rng.choice((*FLOATS, 1e308, -1e308))
    return even[: rng.choice((0, 1, 2, 9, 9, 9))]


def steps(rng: random.Random) -> list[Step]:
    made = [Step(i, i / 5, (i + 1) / 5, 20 if i % 3 == 0 else 8, i % 3 == 0) for i in range(5)]
    if rng.random() < 0.4:
        active = rng.choice([n for n in COUNTS if -(2**63) <= n < 2**63])
        made[rng.randrange(5)] = Step(
            active, rng.choice(FLOATS), rng.choice(FLOATS), active, rng.random() < 0.5, active
        )
    return made[: rng.choice((0, 1, 5, 5))]


def planned(rng: random.Random) -> None:
    options: dict[str, Any] = {**GOOD}
    for name in rng.choices(list(options), k=rng.choice((0, 1, 2))):
        kind = options[name]
        options[name] = rng.choice(FLOATS if isinstance(kind, float) else COUNTS)
        if name == "ratio" and rng.random() < 0.3:
            options[name] = [rng.choice((*FLOATS, 0.5)) for _ in range(rng.choice((0, 8)))]
        elif name == "resets":
            options[name] = [rng.choice(COUNTS) for _ in range(2)]
        elif name == "mode":
            options[name] = "paper"
    of = times(rng)
    made = plan_steps(of, **options)
    assert [step.t for step in made] == of[:-1] and all(math.isfinite(step.t_next) for step in made)
    for step in made:
        assert options["pinned"] <= step.active <= options["tokens"]
        assert step.dense == (step.active == options["tokens"]) and 0 <= step.high <= options["tokens"] - step.active


def timed(rng: random.Random) -> None:
    count = mostly(rng, 7)
    made = flow_times(count, mostly(rng, 3.0, (*FLOATS, 1e-300)))
    assert len(made) == count + 1 and (made[0], made[-1]) == (0, 1)


def aged(rng: random.Random) -> None:
    least = least_max_age(steps(rng), mostly(rng, 20), mostly(rng, 2))
    assert 0 <= least <= 5


def refreshed(rng: random.Random) -> None:
    of, age = steps(rng), mostly(rng, rng.choice((3, 4, 1023, 1024)))
    table = refresh_capacity(of, mostly(rng, 20), mostly(rng, 2), age)
    assert table.shape == (len(of), age + 1) and (table >= 0).all()


def evaluated(rng: random.Random) -> None:
    weights = [[mostly(rng, 0.5, FLOATS) for _ in range(3)] for _ in range(rng.choice((0, 0, 1, 5)))]
    of, solver = steps(rng), rng.choice(("euler", "ab2", "heun", "midpoint", "other"))
    made = plan_evaluations(of, solver, weights)
    assert len(made) == len(of) * (2 if solver in ("heun", "midpoint") else 1)
    assert sum(evaluation.last for evaluation in made) == len(of)


def drawn(rng: random.Random) -> None:
    words = philox([mostly(rng, 2**32 - 1) for _ in range(4)], [mostly(rng, 7) for _ in range(2)])
    assert all(0 <= word < 2**32 for word in words)


def cached(rng: random.Random) -> None:
    assert len(GraphCache(mostly(rng, 4))) == 0


CALLS = {call.__name__: call for call in (planned, timed, aged, refreshed, evaluated, drawn, cached)}


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", CALLS)
def test_any_plan_is_refused_in_words_or_holds(name: str, part: int) -> None:
    rng, taken, call = rng_of(name, part), 0, CALLS[name]
    count = CASES // PARTS
    for number in range(count):
        taken += survives(call, rng, number)
    assert 0 < taken < count  # both happen


def survives(call: Callable[[random.Random], None], rng: random.Random, number: int) -> bool:
    """Whether it was taken."""
    try:
        call(rng)
    except (ValueError, TypeError) as error:
        clear = re.match(r"\w+: .+: got .+, allowed .+", str(error), re.DOTALL)
        assert clear or "incompatible function arguments" in str(error), f"case {number}: {error}"
        return False
    return True
