"""Runs without a model: an engine whose velocity depends on the token and the evaluation, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flagdit.cpp_ext import Plan, Port, Sampler, StepDone
from flagdit.engine.layout import TokenLayout
from flagdit.engine.session import Array


class FakeEngine:
    """A session in Python. It knows its tokens by an input of their ids, which the run moves with them."""

    def __init__(self, layout: TokenLayout, velocities: np.ndarray) -> None:
        """velocities (E, patches, R, P)."""
        self.layout, self.velocities = layout, velocities
        values = layout.patch_values
        self.ports = [
            Port("tokens", "float32", ["A", "R", values]),
            Port("id", "int32", ["A", "R", 1]),
            Port("step", "int64", ["R", 2]),  # evaluation and row
            Port("velocity", "float32", ["A", "R", values], output=True),
        ]

    def bind(self, tensors: Mapping[str, Array]) -> FakeBinding:
        return FakeBinding(self, tensors["id"][:, :, 0], tensors["step"], tensors["velocity"])


@dataclass
class FakeBinding:
    engine: FakeEngine
    ids: Array  # (A, r) of the r rows of a call
    places: Array  # (r, 2)
    output: Array  # (A, r, P)

    def run(self) -> None:
        """What a [nextline] token returns is never used, so it is not even a number."""
        engine, pinned = self.engine, self.engine.layout.pinned
        evaluation, rows = self.places[0, 0], self.places[:, 1]
        patches = engine.layout.patch_index(self.ids[pinned:])
        self.output[:pinned] = np.nan
        self.output[pinned:] = np.take_along_axis(engine.velocities[evaluation][:, rows], patches[..., None], 0)


class State:
    """What a run holds after a step."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler, self.arrays = sampler, sampler.state

    def __getattr__(self, name: str) -> Any:
        return self.arrays[name]

    def images(self) -> np.ndarray:
        """(B, C, H, W)."""
        return np.asarray(self._sampler.latents()[:, :, 0])

    def ages(self) -> np.ndarray:
        """(B, rows, columns)."""
        return np.asarray(self._sampler.ages()[:, 0])


def run(
    layout: TokenLayout, plan: Plan, noise: np.ndarray, velocities: np.ndarray
) -> Iterator[tuple[list[set[int]], State]]:
    """Each sample's active patches, and the state after each step."""
    for _, active, state in timed_run(layout, plan, noise, velocities):
        yield active, state


def waves(plan: Plan, rng: np.random.Generator, *, samples: int, branches: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise (B, 3, 16, 16) and velocities (E, R, 3, 16, 16) that change from one evaluation to the next."""
    noise = rng.standard_normal((samples, 3, 16, 16), np.float32)
    slow, wave = (rng.standard_normal((branches * samples, 3, 16, 16), np.float32) for _ in range(2))
    times = np.array([evaluation.t for evaluation in plan.evaluations], np.float32)[:, None, None, None, None]
    return noise, slow + np.sin(5 * times + wave)


def timed_run(
    layout: TokenLayout, plan: Plan, noise: np.ndarray, velocities: np.ndarray, *guidance: float
) -> Iterator[tuple[StepDone, list[set[int]], State]]:
    """... and the step as it was done; noise (B, C, H, W), velocities (E, R, C, H, W), one an evaluation.

    With twice as many velocities as samples the second half is that of the unconditional branch, with three times as
    many the rest that of a branch that skips layers. guidance: the scales of these.
    """
    sampler = Sampler(
        FakeEngine(layout, np.stack([layout.patchify(v) for v in velocities])),
        layout,
        plan,
        constant={},
        timed={"step": np.stack(np.meshgrid(*map(np.arange, velocities.shape[:2]), indexing="ij"), axis=-1)},
        placed={"id": np.arange(layout.tokens, dtype=np.int32)[:, None]},
        guidance=np.repeat(np.array(guidance or [1], np.float32), layout.patch_values),
        start=np.ascontiguousarray(noise, np.float32),
    )
    while not sampler.done:
        done, state = sampler.step(), State(sampler)
        head = layout.patch_index(state.token[layout.pinned : done.step.active])
        yield done, [set(column.tolist()) for column in head.T], state
