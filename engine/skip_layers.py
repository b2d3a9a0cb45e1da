"""Skip-layer guidance: a branch of guidance that leaves out layers, which the picture is led away from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flagdit import cpp_ext


@dataclass(frozen=True)
class SkipLayerGuidance:
    """v = guided + scale (conditional - skipping), with the velocity of the prompt by a model without some layers.

    scale: above 0; 2.8 is diffusers' own.
    start, stop: of the steps, as shares: step i of n (from 0 on) has it if n start < i < n stop.
    layers: their numbers, from 0 on; None is those that the model says.
    """

    scale: float = 2.8
    start: float = 0.01
    stop: float = 0.2
    layers: Sequence[int] | None = None

    def __post_init__(self) -> None:
        """Raises RequestError if a number is out of bounds; of its layers the model knows."""
        cpp_ext.check_skips(self)

    def steps(self, count: int) -> tuple[int, int]:
        """The first of so many steps that has it, and the first after them that has not."""
        return cpp_ext.skip_steps(self, count)


def skip_layer_guidance_of(said: SkipLayerGuidance | float | None) -> SkipLayerGuidance | None:
    """What somebody says: all of it, or the scale, of which 0 is none."""
    if said is None or isinstance(said, SkipLayerGuidance):
        return said
    return None if said == 0 else SkipLayerGuidance(said)
