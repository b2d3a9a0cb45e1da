"""Everything a run keeps per slot: owned by one `generate()` call, freed with it.

Slots hold tokens: pinned ones first, then the rest of the head, then the tail, whose velocity, keys and values
are cached. Every buffer is slot-major, (N, rows, ...), so head and tail are contiguous. Rows that only some steps
compute therefore have buffers of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import Evaluation, Keeps, SlotBuffers, Step, advance, dilate, select
from flagdit.engine.caches import ForecastCaches
from flagdit.engine.errors import BundleError
from flagdit.engine.guidance import GuidanceDifference
from flagdit.engine.layout import FloatArray, TokenLayout
from flagdit.engine.manifest import Tensor
from flagdit.engine.plan import Plan
from flagdit.engine.ports import begins, caches, twin
from flagdit.engine.ras import RasConfig
from flagdit.engine.session import Array, empty


class History(TypedDict, total=False):
    """What `advance` remembers of tokens, by the names of its arguments (advance.h)."""

    time: FloatArray  # (N, B)
    rate: FloatArray  # (N, B); inf until two velocities are known: what may change in any way is computed first
    slope: FloatArray  # (N, B, P)
    curve: FloatArray  # (N, B, P)
    span: FloatArray  # (N, B)


def _history(keeps: Keeps, n: int, b: int, p: int) -> History:
    """The arrays that a run keeps of N tokens of B samples with P values."""
    arrays: History = {}
    if keeps.rate:
        arrays |= {"time": np.full((n, b), -np.inf, np.float32), "rate": np.full((n, b), np.inf, np.float32)}
    if keeps.slope:
        arrays["slope"] = np.zeros((n, b, p), np.float32)
    if keeps.curve:
        arrays |= {"curve": np.zeros((n, b, p), np.float32), "span": np.zeros((n, b), np.float32)}
    return arrays


def _by_slot(
    ports: Sequence[Tensor], placed: Mapping[str, Array], slots: npt.NDArray[np.int32], rows: int, pinned: int
) -> dict[str, Array]:
    """What `place` made of every token, (N, ...), by slot; for an input (A, R, ...) the same for all rows.

    Raises BundleError if an input without R is not the same for all patches: it does not move with them.
    """
    found: dict[str, Array] = {}
    for port in ports:
        if port.name in placed and begins(port, "A"):
            by_slot, moves = placed[port.name][slots], port.shape[1:2] == ("R",)
            if not moves and (by_slot[pinned:] != by_slot[pinned]).any():
                raise BundleError(f"place: {port.name} differs between patches, and denoise takes it without R")
            found[port.name] = np.repeat(by_slot[:, None], rows, axis=1) if moves else by_slot
    return found


@dataclass(frozen=True)
class Call:
    """What the engine writes in one call: of all R rows, or of the B rows of one branch."""

    rows: slice  # of the R
    output: Array  # (N, rows, P)
    kept: dict[str, Array]  # keys and values (N, rows, ...), by the input that reads their tail

    @classmethod
    def of(cls, ports: Sequence[Tensor], n: int, p: int, rows: slice, cached: npt.DTypeLike) -> Call:
        """Its arrays, uninitialised, for N tokens of P values. cached: what keys and values are kept in."""
        count = rows.stop - rows.start
        kept = {port.name: empty((n, count, *map(int, port.shape[2:])), cached) for port in caches(ports)}
        return cls(rows, empty((n, count, p)), kept)

    @property
    def caches(self) -> list[Array]:
        """All that is kept."""
        return list(self.kept.values())


class RegionState:
    """Buffers of B samples with N tokens; R = branches * B rows (row r belongs to sample r % B).

    calls: of the engine, an evaluation: one of all rows, or of each branch if steps reuse the guidance difference; then
    the first is the conditional one. Arrays with R rows have B rows then, since both branches read the same.
    """

    def __init__(
        self,
        ports: Sequence[Tensor],
        layout: TokenLayout,
        noise: FloatArray,
        branches: int,
        keeps: Keeps,
        placed: Mapping[str, Array],
        cached: npt.DTypeLike = np.float32,
    ) -> None:
        """Start from noise (B, C, H, W). ports: inputs of `denoise`. cached: what keys and values are kept in.

        placed: what `place` made (placing.py).
        """
        b, n, p = len(noise), layout.tokens, layout.patch_values
        apart = branches > 1 and keeps.difference
        count, rows = (branches, b) if apart else (1, branches * b)
        slots = layout.slots()
        patches = layout.patch_index(slots[layout.pinned :])
        self.layout, self.samples, self.branches = layout, b, branches
        self.token = np.repeat(slots[:, None], b, axis=1)  # (N, B)
        self.latent = np.zeros((n, b, p), np.float32)
        self.latent[layout.pinned :] = layout.patchify(noise)[patches]
        self.velocity = np.zeros((n, b, p), np.float32)
        self.history = _history(keeps, n, b, p)
        self.calls = [Call.of(ports, n, p, slice(i * rows, (i + 1) * rows), cached) for i in range(count)]
        self.forecasts = [ForecastCaches(call.caches, b) for call in self.calls if keeps.cache_slope]
        self.difference = GuidanceDifference(n, b, p) if apart else None
        self.output = self.difference.guided if self.difference else self.calls[0].output  # what `advance` reads
        self.tokens = np.tile(self.latent, (1, rows // b, 1))  # (N, R, P)
        self.placed = _by_slot(ports, placed, slots, rows, layout.pinned)
        self.age, self.drops = (np.zeros((n, b), np.int32) for _ in range(2))
        self.score = np.zeros((n, b), np.float32)
        self._swaps, self._counts = np.zeros((b, n, 2), np.int32), np.zeros(b, np.int32)
        self._keys = np.zeros((b, n), np.uint64)
        self._buffers = [self._moved(calls) for calls in range(1, count + 1)]
        self._grid = np.zeros((b, n), np.float32)

    def _moved(self, calls: int) -> SlotBuffers:
        """All that moves with its token, before a step that makes so many calls: what those write, one way only."""
        history = cast("dict[str, FloatArray]", self.history).values()
        rows = [x for x in self.placed.values() if x.ndim > 2]
        floats = [self.latent, self.velocity, self.tokens, *rows, *history]
        written, kept = (
            [cache for call in part for cache in call.caches if not self.forecasts]  # or `forecasts` move them
            for part in (self.calls[:calls], self.calls[calls:])
        )
        if self.difference is not None:
            (written if calls > 1 else kept).append(self.difference.values)
        moved: list[Array] = [*floats, *kept, self.token, self.age, self.drops]
        return SlotBuffers(moved, self.samples, recomputed=written)

    def head(self, active: int, call: int = 0) -> tuple[dict[str, Array], dict[str, Array]]:
        """What a call with `active` slots binds: its inputs and its outputs, by the graph's tensor names."""
        inputs = {"tokens": self.tokens[:active], **{name: x[:active] for name, x in self.placed.items()}}
        own = self.calls[call]
        outputs = {"velocity": own.output[:active]}
        for tail, cache in own.kept.items():
            inputs[tail], outputs[twin(tail)] = cache[active:], cache[:active]
        return inputs, outputs

    def guide(self, active: int, calls: int, guidance: FloatArray) -> None:
        """Where branches are apart: guide the head by the difference that so many calls made, or left as it was."""
        if self.difference is not None:
            conditional, *others = (call.output[:active] for call in self.calls[:calls])
            self.difference.guide(conditional, others[0] if others else None, guidance)

    def advance(self, plan: Plan, step: Step, evaluation: Evaluation, guidance: FloatArray, ras: RasConfig) -> None:
        """Guide the head's velocity and move all tokens, the tail along its cached or forecast velocity."""
        active = max(step.active, self.layout.pinned)  # a step without an engine call moves everything along
        advance(
            self.output[:active],
            guidance,
            self.velocity,
            self.latent,
            self.tokens,
            self.score,
            self.age,
            self.drops,
            dt=evaluation.dt,
            pinned=self.layout.pinned,
            channels=self.layout.channels,
            metric=ras.ranking,
            last=evaluation.last,
            **self.history,
            t=evaluation.t,
            next=plan.scored_at(step),
            bend=evaluation.bend,
            arc=evaluation.arc,
            forecast=ras.forecast_clamp if ras.forecast else 0.0,
            keep_norm=ras.forecast_norm,
        )
        if ras.dilation and evaluation.last:
            dilate(self.score, self.token, self._grid, self.layout.stride, self.layout.pinned, ras.dilation)

    def repartition(self, plan: Plan, step: Step, ras: RasConfig, calls: int = 1) -> None:
        """Bring the tokens that a step computes, in so many calls, into its head."""
        select(
            self.score,
            self.age,
            self.drops,
            self.token,
            active=step.active,
            pinned=plan.pinned,
            starvation=ras.starvation,
            high=step.high,
            max_age=plan.max_age,
            mode=ras.mode,
            future=plan.capacity[step.index],
            swaps=self._swaps,
            counts=self._counts,
            keys=self._keys,
        )
        pairs = self._swaps, self._counts
        self._buffers[calls - 1].swap(*pairs)
        for call, forecast in enumerate(self.forecasts):
            if call < calls:
                forecast.move(pairs, step.active, step.t, plan.damping[step.index])
            else:
                forecast.keep(pairs)

    def remember(self, plan: Plan, step: Step, calls: int) -> None:
        """Before a dense step of so many calls: keep the keys and values that the next forecasts begin with."""
        for call, forecast in enumerate(self.forecasts[:calls]):
            if plan.precedes_ras(call, step.index):
                forecast.remember()

    def retarget(self, plan: Plan, step: Step, t: float, calls: int) -> None:
        """Forecast the tail of a step's calls to the time of an evaluation after its first."""
        for forecast in self.forecasts[:calls]:
            if step.active < self.layout.tokens:
                forecast.retarget(step.active, t, plan.damping[step.index])

    def computed(self, step: Step, t: float, calls: int) -> None:
        """An evaluation at time t has written the head of so many calls."""
        for forecast in self.forecasts[:calls]:
            forecast.computed(step.active, t)

    def patches(self, *arrays: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """What arrays (N, ...) of the state hold of patches, (patches, ...)."""
        return [array[self.layout.pinned :] for array in arrays]

    def images(self, ahead: float = 0.0) -> FloatArray:
        """Latents (B, C, H, W), moved `ahead` in time along the cached velocities: 1 - t is a preview of the end."""
        return self.layout.arranged(self.moved(ahead), self.token)

    def moved(self, ahead: float) -> FloatArray:
        """Latents (N, B, P) in the order of the slots, moved `ahead` in time; the state's own if that is 0."""
        return self.latent + np.float32(ahead) * self.velocity if ahead else self.latent

    def ages(self) -> npt.NDArray[np.int16]:
        """Steps since the velocity of each patch was computed: (B, rows, columns), 0 if it was in the last one."""
        pinned, samples = self.layout.pinned, np.arange(self.samples)
        out = np.empty((self.samples, self.layout.patches), np.int16)  # 1000 steps at most: times.MAX_STEPS
        out[samples, self.layout.patch_index(self.token[pinned:])] = self.age[pinned:]
        return out.reshape(self.samples, self.layout.rows, self.layout.columns)
