"""Runs without a model: an engine whose velocity depends on the token and the evaluation, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import numpy as np

from flagdit.engine.layout import TokenLayout
from flagdit.engine.manifest import ModelSpec
from flagdit.engine.plan import Plan
from flagdit.engine.ras import RasConfig
from flagdit.engine.regions import RegionState
from flagdit.engine.sampler import StepTime, sample
from flagdit.engine.session import Array, OnnxSession

SPEC = cast(
    ModelSpec,
    SimpleNamespace(layers=SimpleNamespace(count=1, kv_heads=1), rope=SimpleNamespace(head_dim=2, theta=10000.0)),
)


@dataclass
class FakeEngine:
    """A session, as far as the sampler knows one."""

    layout: TokenLayout
    velocities: np.ndarray  # (E, patches, R, P)
    state: RegionState

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> FakeBinding:
        return FakeBinding(self, outputs["velocity"], inputs["step"])


@dataclass
class FakeBinding:
    engine: FakeEngine
    output: Array  # (A, r, P) of the r rows of a call
    places: Array  # (r, 2): evaluation and row

    def run(self) -> None:
        """What a [nextline] token returns is never used, so it is not even a number."""
        engine, pinned = self.engine, self.engine.layout.pinned
        evaluation, rows = self.places[0, 0], self.places[:, 1]
        patches = engine.layout.patch_index(engine.state.token[pinned : len(self.output), rows % engine.state.samples])
        self.output[:pinned] = np.nan
        self.output[pinned:] = np.take_along_axis(engine.velocities[evaluation][:, rows], patches[..., None], 0)


def run(
    layout: TokenLayout, plan: Plan, ras: RasConfig, noise: np.ndarray, velocities: np.ndarray
) -> Iterator[tuple[list[set[int]], RegionState]]:
    """Each sample's active patches, and the state after each step."""
    for _, active, state in timed_run(layout, plan, ras, noise, velocities):
        yield active, state


def timed_run(
    layout: TokenLayout, plan: Plan, ras: RasConfig, noise: np.ndarray, velocities: np.ndarray, guidance: float = 1.0
) -> Iterator[tuple[StepTime, list[set[int]], RegionState]]:
    """... and the step as it was done; noise (B, C, H, W), velocities (E, R, C, H, W), one an evaluation.

    With twice as many velocities as samples the second half is that of the unconditional branch.
    """
    rows = velocities.shape[1]
    state = RegionState(SPEC, layout, noise, rows // len(noise), plan.keeps)
    engine = FakeEngine(layout, np.stack([layout.patchify(v) for v in velocities]), state)
    modulations = {"step": np.stack(np.meshgrid(range(len(velocities)), range(rows), indexing="ij"), axis=-1)}
    scale = np.full(layout.patch_values, guidance, np.float32)
    for timed in sample(cast(OnnxSession, engine), state, plan, {}, modulations, scale, ras):
        head = layout.patch_index(state.token[layout.pinned : timed.step.active])
        yield timed, [set(column.tolist()) for column in head.T], state
