"""Plain Euler sampling with guidance, and contact sheets.

Letters: B pictures, T tokens, Y text width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from flagdit.engine.media.picture import save
from painters import Painter


@torch.no_grad()
def sample(
    model: Painter,
    text: Tensor,
    mask: Tensor,
    canvas: tuple[int, int],
    steps: int = 20,
    guidance: float = 3.0,
    seed: int = 0,
) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] of text (2B, T, Y): first the prompts, then empty texts.

    canvas: width and height in pixels.
    """
    count = len(text) // 2
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, *canvas[::-1], generator=generator).to(text.device)
    for step in range(steps):
        t = torch.full((2 * count,), step / steps, device=text.device)
        with torch.autocast(text.device.type, torch.bfloat16):
            velocity = model(torch.cat([x, x]), t, text, mask)
        asked, free = velocity.float().chunk(2)
        x = x + (free + guidance * (asked - free)) / steps
    return x.clamp(-1, 1).cpu()


def contact_sheet(pictures: Tensor, titles: Sequence[str], path: Path, columns: int = 6) -> None:
    """Save pictures (B, 3, H, W), enlarged to 128 pixels, with their titles."""
    cell, line = 128, 14
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * (cell + line)), "white")
    draw = ImageDraw.Draw(sheet)
    pixels = ((pictures + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for i, (picture, title) in enumerate(zip(pixels, titles, strict=True)):
        left, top = i % columns * cell, i // columns * (cell + line)
        image = Image.fromarray(np.ascontiguousarray(picture))
        sheet.paste(image.resize((cell, cell), Image.Resampling.NEAREST), (left, top))
        draw.text((left + 2, top + cell + 1), title.removeprefix("a ")[:24], fill="black", font_size=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(sheet, path)
