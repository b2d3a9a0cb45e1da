"""Colours as people see them, and what lies behind the objects of a picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emoji_quality.places import Room, outside
from scenes import COLOURS, Background

FloatArray = npt.NDArray[np.float32]

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
TO_XYZ /= TO_XYZ.sum(1, keepdims=True)  # over white
NOTICED = 12.0
"""Distance in CIE Lab from which a pixel is not of the background; its noise is below 4."""


def lab(rgb: FloatArray) -> FloatArray:
    """CIE Lab of sRGB values (..., 3) in 0 to 255."""
    c = np.asarray(rgb, np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((np.maximum(c, 0) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ TO_XYZ.T
    x, y, z = np.moveaxis(np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).astype(np.float32)


NAMED = lab(np.array(list(COLOURS.values()), np.float32))


def named(rgb: FloatArray) -> str:
    """The nearest of COLOURS to a colour (3,)."""
    return list(COLOURS)[int(np.square(NAMED - lab(rgb)).sum(1).argmin())]


def pixels(picture: FloatArray) -> FloatArray:
    """A picture (3, H, W) as pixels (H, W, 3)."""
    return ((np.clip(picture, -1, 1) + 1) * 127.5).transpose(1, 2, 0).astype(np.float32)


@dataclass(frozen=True)
class Backdrop:
    """The background of a picture: the colour of each row (H, 3), and how much differs from it outside the objects."""

    rows: FloatArray
    spread: float

    @property
    def colours(self) -> tuple[str, str]:
        """The named colours of the top and of the bottom eighth; of a gradient these are its ends."""
        height = len(self.rows) // 8
        return named(np.median(self.rows[:height], 0)), named(np.median(self.rows[-height:], 0))

    def shows(self, background: Background | None) -> bool:
        """Whether this is the background that was said; white if none was."""
        said = background or Background()
        return self.colours == (said.top, said.bottom)

    def objects(self, picture: FloatArray) -> npt.NDArray[np.bool_]:
        """Which of the pixels (H, W, 3) are not of the background: (H, W)."""
        distance: FloatArray = np.linalg.norm(lab(picture) - lab(self.rows)[:, None], axis=-1)
        return distance > NOTICED


def backdrop(picture: FloatArray, rooms: Sequence[Room]) -> Backdrop:
    """The background of pixels (H, W, 3), from outside the boxes that leave the plainest rest."""
    height, width, _ = picture.shape
    found = (
        rest(picture, outside(boxes, (width, height))) for boxes in itertools.product(*(room.boxes for room in rooms))
    )
    return min(found, key=lambda backdrop: backdrop.spread)


def rest(picture: FloatArray, mask: npt.NDArray[np.bool_]) -> Backdrop:
    """The median colour of every row of pixels (H, W, 3) where the mask (H, W) is set."""
    rows = np.stack([np.median(row[free], 0) for row, free in zip(picture, mask, strict=True)])
    return Backdrop(rows, float(np.abs(picture - rows[:, None])[mask].mean()))
