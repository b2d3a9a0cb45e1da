"""What calibration chooses from: the shape of a plan, and a dozen numbers that say where its steps lie and how they go.

The numbers are few on purpose, fewer than the pictures they are fitted to: they describe curves over the run, whatever
the number of its steps. Multistep weights that are learned for a small number of steps go back to Watson et al. 2022
and to S4S (arXiv 2502.17423); times that are searched for, to Xue et al. 2024 (arXiv 2402.17376).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import flow_times
from flagdit.engine.presets import Preset, Weights
from flagdit.engine.ras import RasConfig, Solver

Numbers = npt.NDArray[np.float64]

VELOCITY, SLOPE = (0.0, 1 / 3, 2 / 3, 1.0), (0.0, 0.5, 1.0)
"""Where the weights of velocities and of slopes are said, from the first step that has one (0) to the last (1)."""


@dataclass(frozen=True)
class Number:
    """One of the numbers: what it begins with, how far it is moved to see what that does, and its bounds."""

    name: str
    start: float
    move: float
    least: float
    most: float


NUMBERS = (
    Number("log shift", float(np.log(4.0)), 0.1, 0.0, 2.5),
    Number("power", 0.0, 0.05, -0.7, 0.7),
    *(Number(f"velocity at {at:.2f}", 1.0, 0.03, 0.3, 1.7) for at in VELOCITY),
    *(Number(f"slope at {at:.2f}", 0.5, 0.05, -1.0, 2.0) for at in SLOPE),
    Number("slope of the last step", 0.0, 0.05, -1.0, 2.0),
    Number("forecast_kv", 0.5, 0.1, 0.0, 1.0),
)
"""`forecast_kv` is the last: a dense plan has nothing to forecast, and does without."""


@dataclass(frozen=True)
class Shape:
    """How many steps, and what each of them computes.

    warmup: dense steps at the start. ratio, ratio_end: shares of the patches in the first step after them and in the
    last, or in the last but one if the last is dense. rests: whether the text rests in those that are not.
    """

    steps: int
    warmup: int
    ratio: float = 1.0
    ratio_end: float = 1.0
    last_dense: bool = True
    rests: bool = False

    @property
    def dense(self) -> bool:
        """Whether every step computes everything."""
        return self.warmup >= self.steps

    @property
    def ratios(self) -> tuple[float, ...]:
        """Of each step, in sixteenths: every number of tokens is another shape to bind."""
        sparse = self.steps - self.warmup - self.last_dense
        falling = np.linspace(self.ratio, self.ratio_end, max(sparse, 0))
        steps = [1.0] * min(self.warmup, self.steps) + [max(round(16 * r), 1) / 16 for r in falling]
        return tuple(steps + [1.0] * (self.steps - len(steps)))

    def __str__(self) -> str:
        if self.dense:
            return f"{self.steps} dense"
        last = ", 1 dense" if self.last_dense else ""
        rests = ", the text at rest" if self.rests else ""
        return f"{self.steps} steps, {self.warmup} dense, {self.ratio:g} to {self.ratio_end:g}{last}{rests}"


def count(shape: Shape) -> int:
    """How many of the numbers a plan of this shape has."""
    return len(NUMBERS) - shape.dense


def start(shape: Shape, shift: float = 4.0, slope: float = 0.5) -> Numbers:
    """ab2 on a shifted grid, its last step Euler's; with a slope of 0, Euler."""
    numbers = np.array([number.start for number in NUMBERS[: count(shape)]])
    numbers[0] = np.log(shift)
    numbers[2 + len(VELOCITY) : 2 + len(VELOCITY) + len(SLOPE)] = slope
    return numbers


def bounded(numbers: Numbers) -> Numbers:
    """The nearest numbers within their bounds."""
    limits = np.array([(number.least, number.most) for number in NUMBERS[: len(numbers)]])
    return np.clip(numbers, limits[:, 0], limits[:, 1])


def times(steps: int, log_shift: float, power: float) -> tuple[float, ...]:
    """Even times u to the power of exp(`power`), shifted towards the noise (flow_times)."""
    even, shift = np.linspace(0, 1, steps + 1) ** np.exp(power), float(np.exp(log_shift))
    shifted = even / (even + shift * (1 - even))
    return (0.0, *(float(t) for t in shifted[1:-1]), 1.0)


def weights(steps: int, numbers: Numbers) -> tuple[Weights, ...]:
    """Of each step: of its velocity and slope, on lines between the places where they are said."""
    place = np.linspace(0, 1, steps) if steps > 1 else np.zeros(1)
    velocity = np.interp(place, VELOCITY, numbers[: len(VELOCITY)])
    bends = max(steps - 2, 0)  # the first step has no slope, and the last has its own
    said = numbers[len(VELOCITY) : len(VELOCITY) + len(SLOPE)]
    slope = np.interp(np.linspace(0, 1, bends) if bends > 1 else [1.0] * bends, SLOPE, said)
    last = [float(numbers[len(VELOCITY) + len(SLOPE)])] if steps > 1 else []
    return tuple((float(v), float(s), 0.0) for v, s in zip(velocity, [0.0, *slope, *last], strict=True))


def preset_of(shape: Shape, numbers: Numbers) -> Preset:
    """The plan of a shape with these numbers."""
    log_shift, power, *rest = bounded(numbers)
    said = np.array(rest)
    regions = RasConfig(
        ratio=1.0 if shape.dense else list(shape.ratios),
        warmup=shape.warmup,
        resets=(),
        forecast_kv=0.0 if shape.dense else float(said[-1]),
        rest_text=shape.rests and not shape.dense,
    )
    return Preset(times(shape.steps, log_shift, power), "ab2", regions, None, weights(shape.steps, said))


def plain(shape: Shape, shift: float, solver: Solver = "ab2") -> Preset:
    """The same shape with nothing fitted, on a shifted grid."""
    regions = RasConfig(ratio=1.0 if shape.dense else list(shape.ratios), warmup=shape.warmup, resets=())
    return Preset(tuple(flow_times(shape.steps, shift)), solver, regions)
