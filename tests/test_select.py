"""select: which tokens the next step computes; against the oracle."""

import numpy as np
import oracle
import pytest
from backends import DEVICES, Backend
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Rule

from flagdit.cpp_ext import select

Case = tuple[dict[str, np.ndarray], Rule]
on_devices = pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few distinct scores, so that ties are common; tokens start in the order of their slots."""
    slots, samples = draw(st.integers(1, 50)), draw(st.integers(1, 3))
    pinned = draw(st.integers(0, slots))
    max_age = draw(st.integers(-1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (slots, samples)
    scores = np.array([0.0, -0.0, 0.5, 1.0, 2.0, np.inf, np.nan], np.float32)
    score = rng.choice(scores, shape) if draw(st.booleans()) else rng.standard_normal(shape)
    active = draw(st.integers(pinned, slots))
    rule = Rule(
        active=active,
        high=draw(st.one_of(st.sampled_from([0, slots - active]), st.integers(0, slots - active))),
        pinned=pinned,
        starvation=draw(st.sampled_from([0.0, 0.1, 1.0])),
        mode=draw(st.sampled_from(["corrected", "paper"])),
        max_age=max_age,
    )
    # Capacities that grow with the horizon, and enough of this step's to keep the promise.
    rule.future = np.cumsum([0, *rng.integers(0, slots + 1, max(max_age, 0))]).tolist()[: max_age + 1]
    arrays = {
        "score": score.astype(np.float32),
        "age": rng.integers(0, max_age + 1, shape, np.int32) if max_age > 0 else np.zeros(shape, np.int32),
        "drops": rng.integers(0, 4, shape, np.int32),
        "token": np.repeat(np.arange(slots, dtype=np.int32)[:, None], samples, 1),
    }
    return arrays, rule


def permuted(arrays: dict[str, np.ndarray], pinned: int, seed: int) -> dict[str, np.ndarray]:
    """Other slots for the unpinned tokens, different in every sample."""
    rng = np.random.default_rng(seed)
    slots, samples = arrays["token"].shape
    order = np.stack([np.r_[:pinned, pinned + rng.permutation(slots - pinned)] for _ in range(samples)], 1)
    return {name: np.take_along_axis(array, order, 0) for name, array in arrays.items()}


def select_tokens(backend: Backend, arrays: dict[str, np.ndarray], rule: Rule) -> list[set[int]]:
    """The unpinned active tokens of each sample, after checking that the swaps are well formed."""
    slots, samples = arrays["token"].shape
    put = {name: backend.put(array) for name, array in arrays.items()}
    out = {
        "swaps": backend.put(np.full((samples, slots, 2), -1, np.int32)),
        "counts": backend.put(np.full(samples, -1, np.int32)),
        "codes": backend.put(np.zeros((samples, slots), np.uint64)),
    }
    options = {name: value for name, value in vars(rule).items() if name != "future"}
    future = backend.put(np.array(rule.future, np.int32)) if rule.max_age >= 0 else None
    select(**put, **out, **options, future=future)
    swaps, counts = backend.get(out["swaps"]), backend.get(out["counts"])
    chosen = []
    for b in range(samples):
        i, j = swaps[b, : counts[b]].T
        assert (swaps[b, counts[b] :] == -1).all()
        assert (np.diff(i) > 0).all() and (np.diff(j) > 0).all()
        assert ((i >= rule.pinned) & (i < rule.active)).all() and ((j >= rule.active) & (j < slots)).all()
        token = arrays["token"][:, b].copy()
        token[np.r_[i, j]] = token[np.r_[j, i]]
        assert sorted(token) == list(range(slots))
        assert (token[: rule.pinned] == arrays["token"][: rule.pinned, b]).all()
        chosen.append({int(t) for t in token[rule.pinned : rule.active]})
    return chosen


def feasible(arrays: dict[str, np.ndarray], rule: Rule) -> bool:
    room = rule.active - rule.pinned
    ages = arrays["age"][rule.pinned :].T.tolist()
    return all(oracle.forced_count(age, rule) <= room for age in ages)


@on_devices
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=250, deadline=None)
def test_matches_the_oracle_in_any_slots(backend: Backend, case: Case, seed: int) -> None:
    arrays, rule = case
    chosen = select_tokens(backend, permuted(arrays, rule.pinned, seed), rule)
    assert all(len(tokens) == rule.active - rule.pinned for tokens in chosen)
    if not feasible(arrays, rule):
        return  # no choice keeps the promise; the number of active tokens still holds
    for b, tokens in enumerate(chosen):
        columns = (arrays[name][:, b] for name in ("score", "age", "drops"))
        assert tokens == oracle.choose(*columns, rule)


@on_devices
@given(case=cases())
@settings(max_examples=50, deadline=None)
def test_batch_is_each_sample_alone(backend: Backend, case: Case) -> None:
    arrays, rule = case
    together = select_tokens(backend, arrays, rule)
    for b, tokens in enumerate(together):
        alone = {name: np.ascontiguousarray(array[:, b : b + 1]) for name, array in arrays.items()}
        assert select_tokens(backend, alone, rule) == [tokens]


@on_devices
@pytest.mark.parametrize("mode", ["corrected", "paper"])
def test_large(backend: Backend, mode: str) -> None:
    rng, slots = np.random.default_rng(0), 5000
    arrays = {
        "score": rng.standard_normal((slots, 2)).astype(np.float32) ** 2,
        "age": rng.integers(0, 5, (slots, 2), np.int32),
        "drops": rng.integers(0, 300, (slots, 2), np.int32),
        "token": np.repeat(np.arange(slots, dtype=np.int32)[:, None], 2, 1),
    }
    rule = Rule(2600, 1680, 40, 0.1, mode, 6, [0, 800, 1600, 2400, 3200, 4000, 4800])
    assert feasible(arrays, rule)
    for b, tokens in enumerate(select_tokens(backend, permuted(arrays, 40, 1), rule)):
        assert tokens == oracle.choose(*(arrays[name][:, b] for name in ("score", "age", "drops")), rule)


@pytest.mark.parametrize("mode", ["corrected", "paper"])
@pytest.mark.parametrize(("high", "expected"), [(2, {0, 1}), (0, {2, 3}), (1, {1, 2})])
def test_the_sides(high: int, expected: set[int], mode: str) -> None:
    score = np.array([[1], [2], [3], [4]], np.float32)
    zero, token = np.zeros((4, 1), np.int32), np.arange(4, dtype=np.int32)[:, None]
    arrays = {"score": score, "age": zero, "drops": zero, "token": token}
    assert select_tokens(DEVICES[0], arrays, Rule(2, high, mode=mode)) == [expected]


@pytest.mark.parametrize(
    ("high", "mode", "expected"), [(0, "corrected", 1), (2, "corrected", 1), (0, "paper", 1), (2, "paper", 0)]
)
def test_a_token_cached_often_is_computed_again(high: int, mode: str, expected: int) -> None:
    """Except in paper mode on the high side, where it is cached all the more (docs/ras.md, line 2)."""
    score, drops = np.ones((3, 1), np.float32), np.array([[0], [3], [1]], np.int32)
    arrays = {"score": score, "age": drops, "drops": drops, "token": np.array([[0], [1], [2]], np.int32)}
    assert select_tokens(DEVICES[0], arrays, Rule(1, high, mode=mode)) == [{expected}]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("score", np.zeros(8, np.float32), "score: got float32 (8,) on cpu, allowed 2 dimensions"),
        ("age", np.zeros((7, 2), np.int32), "age: got int32 (7, 2) on cpu, allowed int32 (8, 2) on cpu"),
        ("token", np.zeros((8, 2), np.int64), "token: got int64 (8, 2) on cpu, allowed int32"),
        ("active", 9, "active: got 9, allowed 2..8"),
        ("pinned", -1, "pinned: got -1, allowed 0..8"),
        ("starvation", -0.5, "starvation: got -0.500000, allowed 0 or more"),
        ("high", 5, "high: got 5, allowed 0..4"),
        ("mode", "papers", "mode: got 'papers', allowed 'corrected', 'paper'"),
        ("max_age", -2, "max_age: got -2, allowed -1..1023"),
        ("future", None, "future: got another dtype () on cpu, allowed int32 (3,) on cpu"),
        ("swaps", np.zeros((2, 6, 2), np.int32), "swaps: got int32 (2, 6, 2) on cpu, allowed int32 (2, 8, 2)"),
        ("counts", np.zeros(1, np.int32), "counts: got int32 (1,) on cpu, allowed int32 (2,)"),
        ("codes", np.zeros((8, 2), np.uint64), "codes: got uint64 (8, 2) on cpu, allowed uint64 (2, 8)"),
    ],
)
def test_refuses(name: str, value: object, message: str) -> None:
    arrays = {array: np.zeros((8, 2), np.int32) for array in ("age", "drops", "token")}
    outputs = {"swaps": np.zeros((2, 8, 2), np.int32), "counts": np.zeros(2, np.int32)}
    options = {"active": 4, "pinned": 2, "starvation": 0.1, "high": 4, "max_age": 2}
    good = {"score": np.zeros((8, 2), np.float32), **arrays, **outputs, **options}
    good |= {"codes": np.zeros((2, 8), np.uint64), "future": np.zeros(3, np.int32)}
    with pytest.raises(ValueError, match="select: ") as error:
        select(**{**good, name: value})
    assert message in str(error.value)
