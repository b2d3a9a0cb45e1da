"""The guidance difference, conditional less unconditional velocity: which steps compute it, what they keep of it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from flagdit.engine.errors import RequestError
from flagdit.engine.layout import FloatArray
from flagdit.engine.times import MAX_STEPS


def unconditional_steps(steps: int, every: int, warmup: int | None = None, dense: Collection[int] = ()) -> list[bool]:
    """Whether each step runs the unconditional branch.

    The first `warmup` do (None is half of them, rounded up), those that are planned `dense`, and of the steps after
    either each `every`-th; 1 is all of them. Raises RequestError if a number is out of bounds.
    """
    for name, value in (("guidance_every", every), ("guidance_warmup", 1 if warmup is None else warmup)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (whole and 1 <= value <= MAX_STEPS):
            raise RequestError(f"{name} is {value!r}; allowed are 1 to {MAX_STEPS}, whole numbers")
    if every == 1 and warmup is not None:
        raise RequestError(f"guidance_warmup is {warmup}, which needs a guidance_every of 2 or more; got 1")
    out: list[bool] = []
    since, first = 0, -(-steps // 2) if warmup is None else warmup
    for step in range(steps):
        since = 0 if step < first or step in dense or since + 1 >= every else since + 1
        out.append(since == 0)
    return out


class GuidanceDifference:
    """What a run keeps of the guidance of N tokens of B samples with P values: slot-major, as everything that moves."""

    def __init__(self, n: int, b: int, p: int) -> None:
        self.values = np.zeros((n, b, p), np.float32)
        # Velocity of the head: what `advance` reads as the output of one branch.
        self.guided = np.empty((n, b, p), np.float32)

    def guide(self, conditional: FloatArray, unconditional: FloatArray | None, guidance: FloatArray) -> None:
        """Guide the head's velocity (A, B, P) by `guidance` (P,), with its new difference, or with the one it carries.

        v = v_uncond + g (v_cond - v_uncond) = v_cond + (g - 1) d
        """
        difference, guided = self.values[: len(conditional)], self.guided[: len(conditional)]
        if unconditional is not None:
            np.subtract(conditional, unconditional, out=difference)
        np.multiply(difference, guidance - 1, out=guided)
        guided += conditional
