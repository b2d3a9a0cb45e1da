"""Arrays -> pictures, and the parts that the maps of a run are drawn from."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from flagdit.engine.layout import FloatArray
from flagdit.files import write_file

# Points of the viridis colour map, dark to bright: readable in grey and by the colour-blind.
VIRIDIS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float32)
INK, QUIET, DENSE = "#1f2430", "#6b7280", "#e8590c"  # text, secondary text, the mark of dense steps


FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Of picture files, by their names' endings."""


def save(image: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture whole or not at all, in the format of its name; see Pillow for the options of a format.

    Raises OutputError if it cannot be written.
    """
    file = io.BytesIO()  # of an error while it writes to a file, Pillow does not say what it was
    image.save(file, FORMATS[path.suffix.lower()], **options)
    write_file(path, file.getbuffer())


def to_image(pixels: FloatArray) -> Image.Image:
    """A picture of pixels (3, H, W) in [-1, 1]."""
    scaled = (pixels.transpose(1, 2, 0) + 1) * 127.5
    return Image.fromarray(np.clip(np.round(scaled), 0, 255).astype(np.uint8))


def colours(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Colours (..., 3) of values in [0, 1]."""
    place = np.clip(values, 0, 1) * (len(VIRIDIS) - 1)
    channels = [np.interp(place, range(len(VIRIDIS)), VIRIDIS[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def fit(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """The largest size of that shape, in pixels, which a box of `width` and `height` holds."""
    scale = min(width / size[0], height / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def heat(values: npt.NDArray[np.floating], size: tuple[int, int]) -> Image.Image:
    """A map of `size` pixels of values (lines, columns) in [0, 1]."""
    return Image.fromarray(colours(values)).resize(size, Image.Resampling.BOX)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of all maps."""
    return ImageFont.load_default(size)


def legend(
    sheet: Image.Image, at: tuple[int, int], width: int, *, ends: tuple[str, str], what: str = "", reverse: bool = False
) -> None:
    """Draw the colour scale from dark to bright (`reverse`: to dark), and below it what it measures and its ends."""
    ramp = np.linspace(1, 0, width) if reverse else np.linspace(0, 1, width)
    sheet.paste(Image.fromarray(np.repeat(colours(ramp)[None], 10, axis=0)), at)
    draw, y = ImageDraw.Draw(sheet), at[1] + 14
    for x, text, anchor in ((0, ends[0], "la"), (width // 2, what, "ma"), (width, ends[1], "ra")):
        draw.text((at[0] + x, y), text, QUIET, font(13), anchor=anchor)
