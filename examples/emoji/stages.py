"""The parts of a training: sizes of pictures, minutes and learning rates."""

import math
from dataclasses import dataclass

import numpy as np

from data import Canvas

WARM_UP = 200  # steps
SHAPES = ((2, 2), (3, 1.5), (1.5, 3))
"""Width and height of the canvases, in halves of a stage's resolution: 1:1, 2:1 and 1:2."""
SHAPE_SHARES = (0.8, 0.1, 0.1)


@dataclass(frozen=True)
class Resolution:
    """Pictures of one size, in several shapes, and how many of them a step has.

    `noise` shifts the log-normal times towards noise: larger pictures need more of it.
    """

    pixels: int
    batch: int
    noise: float

    @property
    def canvases(self) -> list[Canvas]:
        """The shapes at this resolution."""
        return [(int(w * self.pixels / 2), int(h * self.pixels / 2)) for w, h in SHAPES]


@dataclass(frozen=True)
class Stage:
    """One part of the training: its size of pictures, how long, and the learning rate's peak and end.

    A share of the steps is of pictures of another size, so that they are not forgotten. shapes: shares of the canvases.
    """

    resolution: Resolution
    minutes: float
    peak: float
    end: float
    other: Resolution
    share: float
    shapes: tuple[float, float, float] = SHAPE_SHARES

    def draw(self, rng: np.random.Generator) -> Resolution:
        """The size of a step's pictures."""
        return self.other if rng.random() < self.share else self.resolution

    def learning_rate(self, done: float, step: int) -> float:
        """Constant, then a cosine over the last half; `done` is the part of the stage behind us."""
        phase = max(0.0, min(1.0, 2 * done - 1))
        rate = self.end + (self.peak - self.end) * (1 + math.cos(math.pi * phase)) / 2
        return rate * min(1.0, (step + 1) / WARM_UP)
