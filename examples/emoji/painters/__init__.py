"""The families that the recipe trains."""

from collections.abc import Callable

from painters.flag_dit import FlagPainter
from painters.painter import Painter


def _next_dit() -> Painter:
    from painters.next_dit import NextPainter  # diffusers is needed for this family and the next alone

    return NextPainter()


def _mmdit() -> Painter:
    from painters.mmdit import MMPainter

    return MMPainter()


PAINTERS: dict[str, Callable[[], Painter]] = {"flag-dit": FlagPainter, "next-dit": _next_dit, "mmdit": _mmdit}
"""By the name of the family, as in model.json: what makes an untrained model."""

__all__ = ["PAINTERS", "Painter"]
