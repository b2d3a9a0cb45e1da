"""How much memory a run takes on a CPU, before anything is allocated.

Letters: B samples, R rows of one engine call, N tokens, T text tokens, L layers, D width, F width of the hidden layer,
H heads, G kv heads, d head size, P values of a patch, S evaluations.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from flagdit.engine.cost import price
from flagdit.engine.cpu import Precision
from flagdit.engine.errors import RequestError
from flagdit.engine.manifest import ModelSpec
from flagdit.engine.plan import Plan

PROGRAM = 120 << 20
"""Bytes of Python, its libraries, and a text encoder and tokenizer as small as the demo's, measured on Linux."""

WEIGHT = {"float32": 10, "int8": 5, "int8-bf16": 5}
"""Bytes of a parameter, as it is stored, widened and laid out to multiply with; `condition` is always fp32."""

LIVE = {"float32": (6.0, 3.2, 3.3), "int8": (7.0, 4.0, 3.5), "int8-bf16": (4.8, 1.2, 0.0)}
"""fp32 values that a layer holds at a time for each token and row: so many times D, G d and F.

Measured: peaks of engine calls of four models (D 256 to 512, F 768 to 2048, 1 to 4 heads a key head).
"""

WHOLE, BLOCK, LEAST = 4 << 20, 1 << 20, 64
"""Attention takes so many bytes of scores whole, else blocks of so many, of no fewer queries than the last
(cpp_ext/onnxruntime/blocked_attention.cpp)."""

TEXT_TOKENS = 32  # of a model that comes without a text encoder


@dataclass(frozen=True)
class Memory:
    """Bytes that a process holds when a run takes most."""

    program: int  # Python, its libraries, the text encoder
    weights: int
    caches: int  # what the plan keeps of tokens: keys, values, velocities (Cost.cache_bytes)
    state: int  # what else it keeps of them
    conditions: int  # keys and values of the text, modulations of all evaluations
    activations: int  # of one layer
    scores: int  # of attention

    @property
    def total(self) -> int:
        """All of it."""
        return int(sum(astuple(self)))

    def after(self, loaded: int) -> int:
        """All of it where a process that holds so much has loaded the engine already."""
        return self.total + max(loaded - self.program - self.weights, 0)


def memory(
    spec: ModelSpec,
    plans: Sequence[Plan],
    precision: Precision,
    samples: int = 1,
    branches: int = 2,
    threads: int | None = None,
) -> Memory:
    """What a run of these plans one after the other takes in an engine of that precision; of all it says the largest.

    plans: of the steps at the full size, last, and of coarse ones before them. threads: of the engine, by default one a
    core. It is an estimate: docs/cpu.md says how near it comes.
    """
    calls = sum(len(plan.evaluations) for plan in plans)
    weights = WEIGHT[precision] * spec.weights.parameters
    conditions = _conditions(spec, calls, samples, branches, precision)
    legs = [_leg(spec, plan, precision, samples, branches, threads or os.cpu_count() or 1) for plan in plans]
    caches, state, activations, scores = max(legs, key=sum)
    state += sum(len(plan.steps) for plan in plans) * samples * plans[-1].tokens * 2  # ages
    return Memory(PROGRAM, weights, caches, state, conditions, activations, scores)


def check_memory(needs: Callable[[int], int], present: int | None, samples: int, what: str, less: str = "") -> None:
    """Raise RequestError if a run needs more than `present` bytes, with what would fit; None is not known.

    needs: bytes that a run of so many pictures at a time needs. what: the run, less: what would take less, for the
    message.
    """
    if present is None or needs(samples) <= present:
        return
    fits = next((count for count in range(samples - 1, 0, -1) if needs(count) <= present), 0)
    change = f"allowed are {fits} pictures of this size at a time" if fits else "ask for a smaller size"
    raise RequestError(
        f"{what}: about {needs(samples) / 1e9:.2f} GB of memory are needed, and this process may hold "
        f"{present / 1e9:.2f} GB; {change}{less}"
    )


def _leg(
    spec: ModelSpec, plan: Plan, precision: Precision, samples: int, branches: int, threads: int
) -> tuple[int, int, int, int]:
    """Bytes of caches, state, activations and scores. The first step computes all tokens, so none takes more."""
    layers, n = spec.layers, plan.tokens
    apart = plan.keeps.difference and branches > 1
    rows = samples if apart else samples * branches
    patch = spec.latent.channels * spec.tokens.patch_size**2
    d_kv = layers.width // layers.heads * layers.kv_heads
    value_bytes = 2 if precision == "int8-bf16" else 4
    caches = price(spec, plan, samples, branches, value_bytes=value_bytes).cache_bytes
    # Per sample: latent, noise and pictures, what `advance` and `select` know; per row: tokens, angles, velocity.
    state = 4 * n * (samples * (4 * patch + 12) + rows * (patch + spec.rope.head_dim) + samples * branches * patch)
    wide, keys, hidden = LIVE[precision]
    activations = round(4 * n * rows * (wide * layers.width + keys * d_kv + hidden * layers.ffn))
    return caches, state, activations, _scores(spec, n, rows, precision, threads)


def _scores(spec: ModelSpec, tokens: int, rows: int, precision: Precision, threads: int) -> int:
    """Scores of attention to the tokens, or to the text, whose mask has a number for each query besides."""
    if precision == "int8-bf16":
        return 0  # blocks of them never leave a core's cache
    text = spec.text.max_tokens if spec.text is not None else TEXT_TOKENS
    pairs, most = rows * spec.layers.heads, 0
    for keys in (tokens, text):
        whole = 4 * pairs * tokens * keys
        blocks = min(threads, pairs * -(-tokens // LEAST)) * max(BLOCK, 4 * LEAST * keys)
        most = max(most, whole if whole <= WHOLE else min(whole, blocks))
    return most + 4 * rows * tokens * text


def _conditions(spec: ModelSpec, calls: int, samples: int, branches: int, precision: Precision) -> int:
    """What `condition` makes, for each different text and then for all rows; its own activations are as large."""
    layers, rows, texts = spec.layers, samples * branches, samples + branches - 1
    text = spec.text.max_tokens if spec.text is not None else TEXT_TOKENS
    d_kv = layers.width // layers.heads * layers.kv_heads
    keys = 4 * 2 * layers.count * text * d_kv
    modulations = 4 * calls * (6 * layers.count + 2) * layers.width
    return (keys + modulations) * (rows + texts + 1) + modulations
