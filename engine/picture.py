"""Arrays -> pictures: the image itself, and the map of how often each region was recomputed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from flagdit.engine.layout import FloatArray

# Points of the viridis colour map, dark to bright: readable in grey and by the colour-blind.
VIRIDIS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float32)


def to_image(pixels: FloatArray) -> Image.Image:
    """A picture of pixels (3, H, W) in [-1, 1]."""
    scaled = (pixels.transpose(1, 2, 0) + 1) * 127.5
    return Image.fromarray(np.clip(np.round(scaled), 0, 255).astype(np.uint8))


def colours(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Colours (..., 3) of values in [0, 1]."""
    place = np.clip(values, 0, 1) * (len(VIRIDIS) - 1)
    channels = [np.interp(place, range(len(VIRIDIS)), VIRIDIS[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def refresh_map(image: Image.Image, refreshes: npt.NDArray[np.int32], steps: int, side: int = 384) -> Image.Image:
    """The picture beside a map of how often each patch (rows, columns) was recomputed in `steps` steps."""
    scale = side / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    low, high = int(refreshes.min()), int(refreshes.max())
    heat = Image.fromarray(colours((refreshes - low) / max(high - low, 1)))
    gap, bar = 12, 40
    sheet = Image.new("RGB", (2 * size[0] + 3 * gap, size[1] + 2 * gap + bar), "white")
    sheet.paste(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), (gap, gap))
    sheet.paste(heat.resize(size, Image.Resampling.NEAREST), (size[0] + 2 * gap, gap))
    _legend(sheet, (size[0] + 2 * gap, size[1] + 2 * gap), size[0], low, high, steps)
    return sheet


def _legend(sheet: Image.Image, at: tuple[int, int], width: int, low: int, high: int, steps: int) -> None:
    ramp = Image.fromarray(np.repeat(colours(np.linspace(0, 1, width))[None], 12, axis=0))
    sheet.paste(ramp, at)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    x, y = at[0], at[1] + 16
    draw.text((x, y), f"{low}", "black", font)
    draw.text((x + width // 2, y), f"times recomputed in {steps} steps", "black", font, anchor="ma")
    draw.text((x + width, y), f"{high}", "black", font, anchor="ra")
