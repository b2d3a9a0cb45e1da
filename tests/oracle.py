"""The core in NumPy, by token instead of by slot, written for clarity and not for speed."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flagdit.cpp_ext import Step

NO_LIMIT = 2**31 - 1


def future_capacity(steps: Sequence[Step], s: int, pinned: int, max_age: int) -> list[int]:
    """Entry s of refresh_capacity: what the h steps after step s can compute."""
    entry = []
    for h in range(max_age + 1):
        following = steps[s + 1 : s + 1 + h]
        unlimited = len(following) < h or any(step.dense for step in following)
        entry.append(NO_LIMIT if unlimited else sum(step.active - pinned for step in following))
    return entry


def least_max_age(steps: Sequence[Step], tokens: int, pinned: int) -> int:
    """The definition, by trial."""

    def holds(age: int) -> bool:
        windows = [steps[s : s + age + 1] for s in range(len(steps) - age)]
        sparse = [w for w in windows if not any(step.dense for step in w)]
        return all(sum(step.active - pinned for step in w) >= tokens - pinned for w in sparse)

    return next(age for age in range(len(steps) + 1) if holds(age))


def guided(output: np.ndarray, guidance: np.ndarray, samples: int) -> np.ndarray:
    """(A, R, P) -> (A, B, P)."""
    cond, uncond = output[:, :samples], output[:, -samples:]
    return uncond + guidance * (cond - uncond) if output.shape[1] > samples else cond


def patch_score(velocity: np.ndarray, channels: int, metric: str) -> np.ndarray:
    """(..., P) -> (...): over channels, then the mean over the patch's pixels."""
    pixels = velocity.reshape(*velocity.shape[:-1], channels, -1).astype(np.float64)
    if metric == "std" and channels > 1:
        return pixels.std(axis=-2, ddof=1).mean(axis=-1)
    return np.sqrt((pixels**2).sum(axis=-2)).mean(axis=-1)


def dilated(score: np.ndarray, patch: np.ndarray, line: int, share: float) -> np.ndarray:
    """Scores (N,) by token, none of them negative: those of patches reach over to the patches around them."""
    lent = np.pad(np.where(patch, np.float32(share) * score, 0).reshape(-1, line), 1)
    around = np.lib.stride_tricks.sliding_window_view(lent, (3, 3)).max((2, 3)).ravel()
    return np.where(patch, np.maximum(score, around), score)


@dataclass
class Rule:
    """The options of one selection."""

    active: int
    high: int
    pinned: int = 0
    starvation: float = 0.1
    mode: str = "corrected"
    max_age: int = -1
    future: list[int] | None = None


def weighted(score: float, drops: int, rate: float) -> float:
    return float(np.float32(score) * np.float32(math.exp(rate * int(drops))))


def forced_count(ages: Sequence[int], rule: Rule) -> int:
    """How many tokens must be active now so that every later deadline can be met."""
    if rule.max_age < 0:
        return 0
    due = [sum(rule.max_age - age + 1 <= h for age in ages) for h in range(1, rule.max_age + 2)]
    return max(0, *(c - f for c, f in zip(due, rule.future, strict=True)))


def choose(score: np.ndarray, age: np.ndarray, drops: np.ndarray, rule: Rule) -> set[int]:
    """The active unpinned tokens of one sample; arrays are indexed by token, pinned ones first."""
    k = float(np.float32(rule.starvation))
    tokens = range(rule.pinned, len(score))
    high = {t: weighted(score[t], drops[t], k if rule.mode == "paper" else -k) for t in tokens}
    low = {t: weighted(score[t], drops[t], +k) for t in tokens}

    def urgency(t: int) -> tuple[float, ...]:
        return (-age[t], -math.inf, t) if math.isnan(high[t]) else (-age[t], high[t], t)

    def from_high(t: int) -> tuple[float, ...]:
        return (1, 0, -t) if math.isnan(high[t]) else (0, -high[t], -t)

    def from_low(t: int) -> tuple[float, ...]:
        return (1, 0, t) if math.isnan(low[t]) else (0, low[t], t)

    from_low_count = len(score) - rule.active - rule.high
    forced = sorted(tokens, key=urgency)[: forced_count([age[t] for t in tokens], rule)]
    free = sorted(set(tokens) - set(forced), key=from_high)[rule.high :]
    free = sorted(free, key=from_low)[from_low_count:]
    return set(forced) | set(free)


@dataclass
class Trace:
    """One sample after a step, by token."""

    active: set[int]
    latent: np.ndarray  # (N, P)
    age: np.ndarray  # (N,)


def run(
    steps: Sequence[Step], latent: np.ndarray, outputs: np.ndarray, options: dict[str, Any], max_age: int
) -> Iterator[Trace]:
    """Region-adaptive sampling of one sample; outputs (steps, N, P) are what the model says of every token."""
    tokens, pinned = len(latent), options["pinned"]
    velocity, latent = np.zeros_like(latent), latent.copy()
    age, drops = np.zeros(tokens, np.int32), np.zeros(tokens, np.int32)
    active = set(range(pinned, tokens))
    for step, output in zip(steps, outputs, strict=True):
        if not step.dense:
            future = future_capacity(steps, step.index, pinned, max_age)
            score = patch_score(velocity, options["channels"], "std").astype(np.float32)
            rule = Rule(step.active, step.high, pinned, options["starvation"], options["mode"], max_age, future)
            active = choose(score, age, drops, rule)
        else:
            active = set(range(pinned, tokens))
        on = np.isin(np.arange(tokens), list(active))
        velocity[on] = output[on]
        latent[pinned:] += np.float32(step.t_next - step.t) * velocity[pinned:]
        age[pinned:] = np.where(on, 0, age + 1)[pinned:]
        drops[pinned:] += ~on[pinned:]
        yield Trace(active, latent.copy(), age.copy())


@dataclass(frozen=True)
class Past:
    """What is known of tokens (...): their last velocities (..., P), when, and the differences before."""

    velocity: np.ndarray
    time: np.ndarray
    slope: np.ndarray
    curve: np.ndarray
    span: np.ndarray


def extrapolated(past: Past, t: float, most: float, keep_norm: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Velocities (..., P) at time t, changed by at most their norm times `most`, and their slopes there."""
    velocity, slope, curve = (x.astype(np.float64) for x in (past.velocity, past.slope, past.curve))
    known = np.isfinite(past.time)
    gap = np.where(known, t - np.where(known, past.time, t), 0)[..., None]
    span = past.span[..., None]
    change = gap * slope + gap * (gap + span) * curve
    bend = np.where(gap > 0, slope + (2 * gap + span) * curve, 0)
    size, limit = (np.linalg.norm(x, axis=-1, keepdims=True) for x in (change, most * velocity))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(size > limit, limit / size, 1.0)
    bend = np.where(size > 0, bend, 0) * share
    out = velocity + share * change
    if keep_norm:
        norms = (np.linalg.norm(x, axis=-1, keepdims=True) for x in (velocity, out))
        gain = np.divide(*norms) if np.all(out.any(-1)) else 1.0
        out, bend = out * gain, bend * gain
    return out, bend


Velocities = list[tuple[float, np.ndarray]]  # of one token, with their times


def through(seen: Velocities, t: float, order: int = 1) -> np.ndarray:
    """The velocity at time t on the line (parabola ...) through the last that were computed, in Lagrange's form."""
    last = seen[-order - 1 :]
    times = [s for s, _ in last]
    return sum(v * math.prod((t - other) / (s - other) for other in times if other != s) for s, v in last)


def integrate(
    steps: Sequence[Step],
    solver: str,
    heads: Sequence[set[int]],  # the tokens that each step computes
    latent: np.ndarray,  # (N, P)
    model: Callable[[float, np.ndarray], np.ndarray],  # time, (N, P) -> (N, P)
    forecast: int,  # order
) -> Iterator[np.ndarray]:
    """The textbook's formulas, token by token, with what is cached in place of what was not computed."""
    x = latent.astype(np.float64)
    seen: list[Velocities] = [[] for _ in x]
    for step, head in zip(steps, heads, strict=True):
        t, h, start = step.t, step.t_next - step.t, x.copy()

        def v(t: float, x: np.ndarray, head: set[int] = head) -> np.ndarray:
            output = model(t, x)
            for token in head:
                seen[token] = [(s, v) for s, v in seen[token] if s != t] + [(t, output[token])]
            orders = [0 if token in head else forecast for token in range(len(x))]
            return np.stack([through(s, t, order) for s, order in zip(seen, orders, strict=True)])

        k1 = v(t, start)
        if solver == "midpoint":
            x = start + h * v(t + h / 2, start + h / 2 * k1)
        elif solver == "heun":
            x = start + h / 2 * (k1 + v(step.t_next, start + h * k1))
        else:
            x = start + h * k1
        grown = step is steps[-1] and step.index and h > steps[step.index - 1].t_next - steps[step.index - 1].t + 1e-9
        for token, velocities in enumerate(seen):
            if solver == "ab2" and not grown and len(velocities) > 1 and (forecast or token in head):
                x[token] = start[token] + h * through(velocities, t + h / 2)
        yield x.copy()
