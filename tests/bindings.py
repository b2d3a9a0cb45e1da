"""The core's operators between engine calls: which arrays and numbers they take.

Letters in shapes: B samples, R and S rows, N slots, A active, P and D values of a token; * is any number of axes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fuzz import Array

from flagdit.cpp_ext import CacheForecast, SlotBuffers, advance, dilate, guide, normal_noise, select, tick

Arguments = dict[str, Any]
Sizes = Mapping[str, int]


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
    return len(used) == len(counts) and all(((p >= 0) & (p < s["N"])).all() for p in used)


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
    ids = (args["token"] >= 0) & (args["token"] < s["N"])
    return (
        1 <= args["line"] <= max(s["N"], 1)
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


F, IDS, N_B = "float32", "int32", {"score": ("float32", "NB")}
HISTORY = {"time": (F, "NB"), "rate": (F, "NB"), "slope": (F, "NBP"), "curve": (F, "NBP"), "span": (F, "NB")}
PAIRS = {"swaps": (IDS, "BN2"), "counts": (IDS, "B")}
BINDINGS = {
    "dilate": Binding(
        dilate,
        "dilate",
        {**N_B, "token": (IDS, "NB"), "grid": (F, "BN")},
        lambda rng, s: {"line": max(s["N"], 1), "pinned": below(rng, s["N"]), "share": 0.5},
        dilate_fits,
        read=("token",),
        index=("token",),
    ),
    "select": Binding(
        select,
        "select",
        {**N_B, "age": (IDS, "NB"), "drops": (IDS, "NB"), "token": (IDS, "NB"), **PAIRS}
        | {"codes": ("uint64", "BN"), "future": (IDS, "F")},
        lambda rng, s: (
            {"active": s["A"], "pinned": below(rng, s["A"]), "starvation": 0.1}
            | {"high": below(rng, s["N"] - s["A"]), "max_age": s["F"] - 1}
        ),
        select_fits,
        optional=("future",),
        read=("score", "age", "drops", "token", "future"),
        index=("age", "drops", "token", "future"),
    ),
    "guide": Binding(
        guide,
        "guide",
        {"conditional": (F, "ABP"), "unconditional": (F, "ABP"), "guidance": (F, "P")}
        | {"difference": (F, "NBP"), "guided": (F, "NBP"), "skipping": (F, "ABP"), "skip_guidance": (F, "P")},
        lambda rng, s: {},
        lambda args, s: s["A"] <= s["N"] and (args["skipping"] is None) == (args["skip_guidance"] is None),
        optional=("unconditional", "skipping", "skip_guidance"),
        read=("conditional", "unconditional", "guidance", "skipping", "skip_guidance"),
    ),
    "advance": Binding(
        advance,
        "advance",
        {"output": (F, "ARP"), "guidance": (F, "P"), "velocity": (F, "NBP"), "latent": (F, "NBP"), **N_B, **HISTORY}
        | {"tokens": (F, "NRP"), "age": (IDS, "NB"), "drops": (IDS, "NB")},
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
    "tick": Binding(tick, "tick", {"entry": (IDS, "1")}, lambda rng, s: {}, lambda args, s: True, index=("entry",)),
}
