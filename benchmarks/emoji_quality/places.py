"""Where the objects of a scene may lie, as `scenes.py` puts them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from icons import SIZES
from scenes import BESIDE, CORNERS, UPRIGHT, Box, Scene, cells

Canvas = tuple[int, int]
Cell = tuple[int, int, int, int]

PLAIN, TWO_COLOURS, CORNER, TWO = "plain", "two colours", "corner", "two objects"
KINDS = (PLAIN, TWO_COLOURS, CORNER, TWO)


def kind(scene: Scene) -> str:
    """Which of KINDS a scene is."""
    if len(scene.objects) == 2:
        return TWO
    if scene.place is not None:
        return CORNER
    return PLAIN if scene.background is None or scene.background.top == scene.background.bottom else TWO_COLOURS


@dataclass(frozen=True)
class Room:
    """What one object has to itself: every box (left, top, side) that it may fill, and the square around its middle."""

    boxes: list[Box]
    window: Box

    @classmethod
    def of(cls, cell: Cell, patch: int) -> Room:
        """The room of a cell; the boxes are those that `scenes.within` draws from."""
        left, top, width, height = cell
        side = min(width, height) * 7 // 8 // patch * patch
        tops = [top + y for y in starts(height - side, patch)]
        lefts = [left + x for x in starts(width - side, patch)]
        whole = min(width, height)
        window = left + (width - whole) // 2, top + (height - whole) // 2, whole
        return cls([(x, y, side) for y, x in itertools.product(tops, lefts)], window)


def starts(free: int, patch: int) -> Iterator[int]:
    """Where an object may begin along an axis with so many free pixels: a patch at most from the middle."""
    last = free // patch
    return (patch * at for at in range(max(0, (last - 1) // 2), min(last, last // 2 + 1) + 1))


def rooms(scene: Scene, canvas: Canvas, patch: int) -> list[Room]:
    """The room of each object. Two objects whose place is unsaid: the first is left, or above."""
    if len(scene.objects) == 2 and scene.place is None:
        scene = replace(scene, place=BESIDE[0] if canvas[0] >= canvas[1] else UPRIGHT[0])
    return [Room.of(cell, patch) for cell in cells(scene, canvas, np.random.default_rng())]  # a said place draws none


def corners(canvas: Canvas, patch: int) -> list[Room]:
    """The rooms of CORNERS."""
    return [rooms(Scene(("",), place), canvas, patch)[0] for place in CORNERS]


def sides(canvas: Canvas, patch: int) -> set[int]:
    """Every side that an object may have on a canvas."""
    one, two = Scene(("",)), Scene(("", ""))
    every = [*rooms(one, canvas, patch), *rooms(two, canvas, patch)]
    if canvas[0] == canvas[1]:  # corners are for square pictures
        every += corners(canvas, patch)
    return {side for room in every for *_, side in room.boxes}


def fits(canvas: Canvas, patch: int) -> bool:
    """Whether there are icons of every side that a canvas needs."""
    return sides(canvas, patch) <= set(SIZES)


def outside(boxes: Sequence[Box], canvas: Canvas) -> np.ndarray:
    """Which pixels (H, W) lie in none of the boxes."""
    mask = np.ones(canvas[::-1], bool)
    for left, top, side in boxes:
        mask[top : top + side, left : left + side] = False
    return mask
