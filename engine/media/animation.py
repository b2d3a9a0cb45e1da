"""A run as an animation: one frame a step, the picture so far beside the age of its regions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw

from flagdit.engine.media.maps import GAP, MARGIN, PANEL, freshness, pair
from flagdit.engine.media.picture import DENSE, INK, QUIET, colours, fit, font, legend
from flagdit.engine.report import StepReport
from flagdit.files import write_file

RAS, TO_COME, BARS = "#2a9d8f", "#d9dce1", 36  # colours of the time line, and its height in pixels
LAST = 2500  # milliseconds
FORMATS = {".gif": "GIF", ".webp": "WEBP"}
"""Of animations, by their names' endings."""


def thumbnail(image: Image.Image) -> Image.Image:
    """The picture at the size of a frame's panel: what is kept of every step of a long run."""
    return image.convert("RGB").resize(fit(image.size, PANEL, PANEL), Image.Resampling.LANCZOS)


def frames(
    pictures: Sequence[Image.Image],
    ages: npt.NDArray[np.int16],  # (S, lines, columns)
    steps: Sequence[StepReport],
    *,
    tokens: int,
) -> list[Image.Image]:
    """A frame for each of S steps, given the picture after it; all have one colour scale, from age 0 to the oldest."""
    oldest = max(int(ages.max()), 1)
    shares = [step.active / tokens for step in steps]
    out = []
    for i, (picture, age) in enumerate(zip(pictures, ages, strict=True)):
        panels = pair(picture, freshness(age, oldest), ("Preview of the result", "Steps since computed"))
        out.append(_frame(panels, steps, shares, index=i, oldest=oldest))
    return out


def durations(count: int) -> list[int]:
    """Milliseconds of each frame: about five seconds in all, and the last one longer."""
    return [min(max(5000 // count // 10 * 10, 40), 400)] * (count - 1) + [LAST]


def save(pictures: Sequence[Image.Image], path: Path) -> None:
    """Write an endless animation, GIF or WebP as the name ends. Raises OutputError if it cannot be written."""
    kind, file = FORMATS[path.suffix.lower()], io.BytesIO()
    first, *rest = _with_palette(pictures) if kind == "GIF" else pictures
    options = {"duration": durations(len(pictures)), "loop": 0, "append_images": rest}
    first.save(file, kind, save_all=True, **options, **({"quality": 90} if kind == "WEBP" else {}))
    write_file(path, file.getbuffer())


def _with_palette(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """Frames of 256 colours, the same in all: what is drawn keeps its own, the previews share the rest."""
    white, flat = (255, 255, 255), [ImageColor.getrgb(bar) for bar in (RAS, TO_COME)]
    inks = [np.linspace(white, ImageColor.getrgb(ink), 9)[1:] for ink in (INK, QUIET, DENSE)]  # text has soft edges
    drawn = np.concatenate([[white], flat, colours(np.linspace(0, 1, 61)), *inks]).round().astype(np.uint8)
    panels = [picture.crop((MARGIN, 0, MARGIN + PANEL, picture.height)).resize((96, 96)) for picture in pictures]
    previews = Image.fromarray(np.concatenate([np.asarray(panel) for panel in panels]))
    shared = np.array(previews.quantize(256 - len(drawn)).getpalette(), np.uint8).reshape(-1, 3)
    shared[(shared > 240).all(axis=1)] = 255  # an almost white would be taken for the paper
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([drawn, shared])[:256].tobytes())
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def _frame(
    panels: Image.Image, steps: Sequence[StepReport], shares: Sequence[float], *, index: int, oldest: int
) -> Image.Image:
    head, foot = 40, 44 + BARS + 24
    size = (panels.width + 2 * MARGIN, panels.height + head + foot + 2 * MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw, step = ImageDraw.Draw(sheet), steps[index]
    small = f", at {step.size[0]}x{step.size[1]}" if step.tokens < max(other.tokens for other in steps) else ""
    share = f"all tokens computed{small}" if step.dense else f"{shares[index]:.0%} of the tokens computed"
    title = f"Step {step.index}"
    draw.text((MARGIN, MARGIN - 4), title, INK, font(22))
    draw.text(
        (MARGIN + max(100, draw.textlength(title, font(22)) + 20), MARGIN + 2), f"t = {step.t:.3f}", QUIET, font(15)
    )
    draw.text((size[0] - MARGIN, MARGIN + 2), share, DENSE if step.dense else INK, font(15), anchor="ra")
    sheet.paste(panels, (MARGIN, MARGIN + head))
    under = MARGIN + head + panels.height + 12
    legend(sheet, (MARGIN + PANEL + GAP, under), PANEL, ends=("0", f"{oldest}"), what="steps old", reverse=True)
    _time_line(draw, (MARGIN, under + 44), panels.width, steps=steps, shares=shares, index=index)
    return sheet


def _time_line(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    width: int,
    *,
    steps: Sequence[StepReport],
    shares: Sequence[float],
    index: int,
) -> None:
    """One bar a step, as high as its share of the tokens; steps to come are grey."""
    pitch, bottom = (width + 3) / len(steps), at[1] + BARS  # 3 pixels between two bars
    for i, (step, share) in enumerate(zip(steps, shares, strict=True)):
        left, right = at[0] + i * pitch, at[0] + (i + 1) * pitch
        colour = TO_COME if i > index else DENSE if step.dense else RAS
        draw.rectangle((left, bottom - max(2, round(share * BARS)), max(left, right - 4), bottom), fill=colour)
    x = round(at[0] + (index + 0.5) * pitch - 2)
    draw.polygon([(x, bottom + 5), (x - 5, bottom + 13), (x + 5, bottom + 13)], fill=INK)
