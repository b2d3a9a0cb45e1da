"""The core between engine calls, with any arrays and numbers: refused in words before anything is written, or done inside
the arrays. `make sanitize` runs it under ASan and UBSan, with more cases.

A case is a call that fits, changed in up to two places. Letters in shapes: B samples, R rows, N slots, A active, P and D values
of a token; * is any number of axes.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fuzz import CASES, FLOATS, INTEGERS, PARTS, Array, Guarded, reshaped, rng_of

from flagdit.cpp_ext import CacheForecast, SlotBuffers, advance, dilate, normal_noise, select, tick

Arguments = dict[str, Any]
Sizes = Mapping[str, int]
IDS = (-(2**31), -1, 2**31 - 1, 2**30)


@dataclass(frozen=True)
class Binding:
    """A function of the core. arrays: their types, any where there is none, and their shapes."""

    call: Callable[..., object]
    words: str
    arrays: dict[str, tuple[str | None, str]]
    numbers: Callable[[random.Random, Sizes], Arguments]
    fits: Callable[[Arguments, Sizes], bool]
    optional: tuple[str, ...] = ()
    read: tuple[str, ...] = ()  # but not written
    index: tuple[str, ...] = ()


def swap(first: Array, second: Array, swaps: Array, counts: Array, samples: int) -> None:
    SlotBuffers([first], samples, [second]).swap(swaps, counts)


def move(values: Array, anchors: Array, slopes: Array, anchored: Array, samples: int, **step: Any) -> None:
    CacheForecast([values], [anchors], [slopes], anchored, samples, "float32").move(**step)


def below(rng: random.Random, most: int) -> int:
    return rng.randint(0, max(most, 0))


def pairs_fit(args: Arguments, s: Sizes) -> bool:
    counts, swaps = args["counts"], args["swaps"]
    used = [pairs[:count] for pairs, count in zip(swaps, counts, strict=True) if 0 <= count <= s["N"]]
    return len(used) == len(counts) and all(((0 <= p) & (p < s["N"])).all() for p in used)


def swap_fits(args: Arguments, s: Sizes) -> bool:
    b = args["samples"]
    return b == s["B"] >= 1 <= s["N"] and all(s[x] >= b and s[x] % b == 0 for x in "RS") and pairs_fit(args, s)


def move_fits(args: Arguments, s: Sizes) -> bool:
    b = args["samples"]
    finite = all(map(math.isfinite, (args["time"], args["target"]))) and 0 <= args["damping"] <= 1
    ranges = all(0 <= args[name] <= s["N"] for name in ("fresh", "active"))
    if not (b == s["B"] >= 1 <= s["N"] and s["D"] >= 1 and s["R"] >= b and s["R"] % b == 0 and finite and ranges):
        return False
    if args["swaps"] is None or args["counts"] is None:
        return args["swaps"] is None and args["counts"] is None
    ids = [p[:n].ravel().tolist() for p, n in zip(args["swaps"], args["counts"], strict=True)]
    return pairs_fit(args, s) and all(len(set(x)) == len(x) for x in ids)


def select_fits(args: Arguments, s: Sizes) -> bool:
    ordered = 0 <= args["pinned"] <= args["active"] <= s["N"] >= 1 and 0 <= args["high"] <= s["N"] - args["active"]
    age = args["max_age"]
    future = age == -1 or (0 <= age <= 1023 and args["future"] is not None and s["F"] == age + 1)
    return ordered and future and args["starvation"] >= 0 and math.isfinite(args["starvation"])


def dilate_fits(args: Arguments, s: Sizes) -> bool:
    ids = (0 <= args["token"]) & (args["token"] < s["N"])
    return (
        args["row"] >= 1
        and s["N"] % args["row"] == 0
        and 0 <= args["pinned"] <= s["N"]
        and bool(ids.all())
        and (0 <= args["share"] <= 1)
    )


def advance_fits(args: Arguments, s: Sizes) -> bool:
    if s["B"] < 1 or s["R"] not in (s["B"], 2 * s["B"]) or not 0 <= args["pinned"] <= s["A"] <= s["N"]:
        return False
    if args["channels"] < 1 or s["P"] < 1 or s["P"] % args["channels"] or not math.isfinite(args["dt"]):
        return False
    past = [args[name] is not None for name in ("time", "rate", "slope", "curve", "span")]
    if not (past[0] and past[1]):
        return not any(past) and args["bend"] == args["arc"] == args["forecast"] == 0
    known = past[3] == past[4] and (past[2] or not past[3])
    bends = past[2] or args["bend"] == args["forecast"] == 0
    numbers = all(math.isfinite(args[name]) for name in ("bend", "arc", "forecast", "t", "next"))
    return known and bends and (past[3] or args["arc"] == 0) and numbers and args["forecast"] >= 0


F, I, N_B = "float32", "int32", {"score": ("float32", "NB")}
HISTORY = {"time": (F, "NB"), "rate": (F, "NB"), "slope": (F, "NBP"), "curve": (F, "NBP"), "span": (F, "NB")}
PAIRS = {"swaps": (I, "BN2"), "counts": (I, "B")}
BINDINGS = {
    "dilate": Binding(
        dilate,
        "dilate",
        {**N_B, "token": (I, "NB"), "grid": (F, "BN")},
        lambda rng, s: {"row": max(s["N"], 1), "pinned": below(rng, s["N"]), "share": 0.5},
        dilate_fits,
        read=("token",),
        index=("token",),
    ),
    "select": Binding(
        select,
        "select",
        {**N_B, "age": (I, "NB"), "drops": (I, "NB"), "token": (I, "NB"), **PAIRS}
        | {"keys": ("uint64", "BN"), "future": (I, "F")},
        lambda rng, s: (
            {"active": s["A"], "pinned": below(rng, s["A"]), "starvation": 0.1}
            | {"high": below(rng, s["N"] - s["A"]), "max_age": s["F"] - 1}
        ),
        select_fits,
        optional=("future",),
        read=("score", "age", "drops", "token", "future"),
        index=("age", "drops", "token", "future"),
    ),
    "advance": Binding(
        advance,
        "advance",
        {"output": (F, "ARP"), "guidance": (F, "P"), "velocity": (F, "NBP"), "latent": (F, "NBP"), **N_B, **HISTORY}
        | {"tokens": (F, "NRP"), "age": (I, "NB"), "drops": (I, "NB")},
        lambda rng, s: (
            {"dt": 0.1, "pinned": below(rng, s["A"]), "channels": rng.choice((1, max(s["P"], 1)))}
            | {"t": 0.1, "next": 0.2, "bend": 0.0, "arc": 0.0, "forecast": 0.0}
        ),
        advance_fits,
        optional=tuple(HISTORY),
        read=("output", "guidance"),
        index=("age", "drops"),
    ),
    "swap": Binding(
        swap,
        "swap|SlotBuffers",
        {"first": (None, "NR*"), "second": (None, "NS*"), **PAIRS},
        lambda rng, s: {"samples": s["B"]},
        swap_fits,
        read=("swaps", "counts"),
        index=("swaps", "counts"),
    ),
    "move": Binding(
        move,
        "move|CacheForecast",
        {"values": (F, "NRD"), "anchors": (F, "NRD"), "slopes": ("uint16", "NRD"), "anchored": (F, "NB"), **PAIRS},
        lambda rng, s: (
            {"samples": s["B"], "fresh": below(rng, s["N"]), "active": below(rng, s["N"])}
            | {"time": 0.3, "target": 0.4, "damping": 1.0}
        ),
        move_fits,
        optional=("swaps", "counts"),
        read=("swaps", "counts"),
        index=("swaps", "counts"),
    ),
    "normal_noise": Binding(
        normal_noise,
        "normal_noise",
        {"out": (F, "BP")},
        lambda rng, s: {"seeds": [rng.choice((0, 1, 2**63, 2**64 - 1, 2**64, -1)) for _ in range(s["B"])]},
        lambda args, s: len(args["seeds"]) == s["B"] and all(0 <= seed < 2**64 for seed in args["seeds"]),
    ),
    "tick": Binding(tick, "tick", {"row": (I, "1")}, lambda rng, s: {}, lambda args, s: True, index=("row",)),
}


def letters(rng: random.Random) -> dict[str, int]:
    n, b = rng.choice((0, 1, 2, 5, 12)), rng.choice((0, 1, 1, 1, 2, 2, 3))
    sizes = {"N": n, "B": b, "A": below(rng, n), "R": b * rng.choice((1, 2)), "S": b * rng.choice((1, 2))}
    return {**sizes, "P": rng.choice((0, 1, 4, 4, 6, 6)), "D": rng.choice((1, 8, 513)), "F": rng.choice((0, 1, 4))}


def shape_of(form: str, s: Sizes, rng: random.Random) -> tuple[int, ...]:
    tail = rng.choice([(), (3,), (2, 70)]) if form.endswith("*") else ()
    return (*(int(x) if x.isdigit() else s[x] for x in form.rstrip("*")), *tail)


def unified(binding: Binding, args: Arguments) -> dict[str, int] | None:
    """What the letters are, if all arrays agree on that, and have their types and whole memory; else nothing."""
    sizes: dict[str, int] = {}
    for name, (kind, form) in binding.arrays.items():
        array, axes = args[name], form.rstrip("*")
        if array is None and name in binding.optional or (name == "future" and args["max_age"] == -1):
            continue
        if array is None or (kind and array.dtype != kind) or not array.flags.c_contiguous:
            return None
        if len(array.shape) < len(axes) or (axes == form and len(array.shape) > len(axes)):
            return None
        if not (array.flags.writeable or name in binding.read) or not (
            array.flags.aligned or not kind or not array.size
        ):
            return None
        for letter, size in zip(axes, array.shape, strict=False):
            if size != (int(letter) if letter.isdigit() else sizes.setdefault(letter, size)):
                return None
    return {"F": -1, **sizes}


def changed(rng: random.Random, array: Array, index: bool) -> tuple[Guarded, Array]:
    """Another array, and what guards it."""
    kind = rng.randrange(6) if not index else 6 * (rng.random() < 0.6)
    if kind == 6:
        guard = Guarded(array)
        if array.size:
            guard.array.flat[rng.randrange(array.size)] = rng.choice((*IDS, len(array), 0, 1))
        return guard, guard.array
    if kind == 0:
        guard = Guarded(np.zeros(reshaped(rng, array.shape), array.dtype))
        return guard, guard.array
    if kind == 1:
        guard = Guarded(array.astype(rng.choice(("float64", "int64", "float16", "uint8", "float32", "int32"))))
        return guard, guard.array
    if kind == 2 and array.ndim:
        guard = Guarded(np.repeat(array, 2, -1))
        return guard, guard.array[..., ::2]
    if kind == 3:
        guard = Guarded(np.zeros(array.nbytes + 8, np.uint8))
        return guard, guard.array[1 : 1 + array.nbytes].view(array.dtype).reshape(array.shape)
    guard = Guarded(array)
    if kind == 4:
        guard.array.flags.writeable = False
    return guard, guard.array


def made(binding: Binding, rng: random.Random) -> tuple[Arguments, list[Guarded]]:
    sizes = letters(rng)
    generator = np.random.default_rng(rng.randrange(2**32))
    args, guards = binding.numbers(rng, sizes), []
    left_out = rng.choice((0, 0, 0.1, 1))
    change = rng.choices([*binding.arrays, *args, *binding.index, *binding.index], k=rng.choice((0, 1, 1, 2)))
    for name, (kind, form) in binding.arrays.items():
        array: Array = generator.uniform(0, 3, shape_of(form, sizes, rng)).astype(kind or F)
        if name == "counts":
            array %= max(sizes["N"] // 4, 1)
        elif name == "swaps":
            array[...] = np.arange(2 * sizes["N"]).reshape(-1, 2) % max(sizes["N"], 1)
        elif name == "token" and array.size:
            array[...] = generator.permuted(np.arange(len(array)))[:, None]
        guard = Guarded(array)
        args[name] = guard.array
        if name in change:
            guard, args[name] = changed(rng, array, name in binding.index)
        guards.append(guard)
        if name in binding.optional and rng.random() < left_out:
            args[name] = None
    for name in set(change) & set(args) - set(binding.arrays) - {"seeds"}:
        args[name] = rng.choice(FLOATS if isinstance(args[name], float) else (*INTEGERS, 2**64, 5))
    return args, guards


def check(binding: Binding, args: Arguments, guards: list[Guarded]) -> bool:
    """Whether it was taken."""
    before = [guard.memory.copy() for guard in guards]
    sizes = unified(binding, args)
    fits = sizes is not None and binding.fits(args, sizes)
    try:
        binding.call(**args)
    except (ValueError, TypeError) as error:
        assert not fits, f"refused, and fits: {error}"
        clear = re.match(rf"({binding.words}): .+: got .+, allowed .+", str(error), re.DOTALL)
        assert clear or "incompatible function arguments" in str(error), str(error)
        for guard, memory in zip(guards, before, strict=True):
            np.testing.assert_array_equal(guard.memory, memory)
        return False
    alike = binding.call is move and sizes is None  # caches are of any type with as many bytes
    assert fits or alike, "taken, and does not fit"
    for guard in guards:
        guard.check()
    return True


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", BINDINGS)
def test_any_call_is_refused_in_words_or_stays_inside(name: str, part: int) -> None:
    rng, taken = rng_of(name, part), 0
    for number in range(CASES // PARTS):
        args, guards = made(BINDINGS[name], rng)
        try:
            taken += check(BINDINGS[name], args, guards)
        except AssertionError as error:
            said = {key: (x.dtype, x.shape) if isinstance(x, np.ndarray) else x for key, x in args.items()}
            raise AssertionError(f"case {number}: {said}: {error}") from error
    assert CASES // PARTS // 20 < taken < CASES // PARTS  # both happen
