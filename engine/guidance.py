"""The guidance difference, conditional less unconditional velocity: what a run keeps of it."""

from __future__ import annotations

import numpy as np

from flagdit.engine.layout import FloatArray


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
