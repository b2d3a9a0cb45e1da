"""What ways to paint take, over the same pictures: CPU time of pictures and of steps, beside their FLOPs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from flagdit.engine import DENSE, Plan, RasConfig, Solver, make_plan
from flagdit.engine.bench.measure import psnr
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.cost import price
from flagdit.engine.layout import FloatArray, TokenLayout, model_shift

Paint = Callable[[str, int, int, Callable[[], None]], FloatArray]
"""Of a prompt, a seed, a number of steps and what to call after each: latents (1, C, H, W)."""


@dataclass(frozen=True)
class Peer:
    """One way to paint. own: name of the dense one of the same software. twin: name of another of the same picture."""

    name: str
    own: str
    twin: str | None
    paint: Paint
    ras: RasConfig = DENSE
    solver: Solver = "euler"


@dataclass(frozen=True)
class Picture:
    """Latents and what they took: CPU and wall seconds, and CPU seconds of each step."""

    latents: FloatArray
    seconds: float
    wall: float
    steps: list[float]


@dataclass(frozen=True)
class Regions:
    """What leaving regions out gained over `own`: of pictures, and of the sparse steps alone.

    bound: the speedup if time followed FLOPs; efficiency: what part of it was had. step: CPU seconds of a sparse step;
    step_work and step_time: FLOPs and CPU time of it over those of a dense one; step_efficiency: the one by the other.
    """

    speedup: float
    bound: float
    efficiency: float
    step: float
    step_work: float
    step_time: float
    step_efficiency: float


@dataclass(frozen=True)
class Row:
    """What one way took and gave. seconds: CPU time of a picture; ratio: of that to the first peer's; step: CPU seconds
    of a dense step. psnr_dense, psnr_twin: dB to the dense pictures and to the twin's."""

    name: str
    seconds: float
    wall: float
    ratio: float
    step: float
    regions: Regions | None
    psnr_dense: float
    psnr_twin: float | None


def take(peer: Peer, prompt: str, seed: int, steps: int) -> Picture:
    """Paint a picture and take the time."""
    wall, marks = time.perf_counter(), [time.process_time()]
    latents = peer.paint(prompt, seed, steps, lambda: marks.append(time.process_time()))
    end = time.process_time()
    durations = [after - before for before, after in pairwise(marks)]
    return Picture(latents, end - marks[0], time.perf_counter() - wall, durations)


def measure(peers: Sequence[Peer], prompts: Sequence[str], steps: int) -> dict[str, list[Picture]]:
    """Pictures of every prompt by every peer, in turn."""
    pictures: dict[str, list[Picture]] = {peer.name: [] for peer in peers}
    for seed, prompt in enumerate(prompts):
        for peer in peers:
            pictures[peer.name].append(take(peer, prompt, seed, steps))
    return pictures


def nearness(pictures: Sequence[Picture], others: Sequence[Picture]) -> list[float]:
    """PSNR of each picture to the other of the same prompt."""
    return [float(psnr(a.latents, b.latents)[0]) for a, b in zip(pictures, others, strict=True)]


def row(spec: ModelSpec, layout: TokenLayout, peer: Peer, pictures: Mapping[str, Sequence[Picture]], dense: str) -> Row:
    """Of one peer, over all pictures by the peers' names; `dense` names those that quality is measured by."""
    mine, first = pictures[peer.name], next(iter(pictures.values()))
    steps = len(mine[0].steps)
    plan = make_plan(
        peer.ras,
        steps,
        layout.tokens,
        pinned=layout.pinned,
        shift=model_shift(spec, (layout.width, layout.height)),
        solver=peer.solver,
    )
    return Row(
        name=peer.name,
        seconds=seconds(mine),
        wall=median(picture.wall for picture in mine),
        ratio=seconds(mine) / seconds(first),
        step=dense_step(plan, mine),
        regions=None if peer.ras is DENSE else regions(spec, plan, mine, pictures[peer.own]),
        psnr_dense=fmean(nearness(mine, pictures[dense])),
        psnr_twin=None if peer.twin is None else fmean(nearness(mine, pictures[peer.twin])),
    )


def regions(spec: ModelSpec, plan: Plan, mine: Sequence[Picture], own: Sequence[Picture]) -> Regions:
    """Of pictures made by this plan, beside dense ones of the same software."""
    sparse = [step for step in plan.steps if not step.dense]
    speedup, bound = seconds(own) / seconds(mine), price(spec, plan).expected_speedup
    step = median(fmean(picture.steps[s.index] for s in sparse) for picture in mine)
    work = fmean(s.active for s in sparse) / plan.tokens
    taken = step / median(second for picture in own for second in picture.steps)
    return Regions(speedup, bound, speedup / bound, step, work, taken, work / taken)


def dense_step(plan: Plan, pictures: Sequence[Picture]) -> float:
    """CPU seconds of a dense step."""
    return median(picture.steps[step.index] for picture in pictures for step in plan.steps if step.dense)


def seconds(pictures: Sequence[Picture]) -> float:
    """CPU time of a picture."""
    return median(picture.seconds for picture in pictures)
