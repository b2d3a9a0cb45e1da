"""Pictures of emoji with captions; `python examples/emoji/data.py --icons DIR` prepares them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from captions import Caption, TextBank, all_captions, build_bank, load_bank
from icons import SIZES, STYLES, Icons, build_icons, compose, load_icons

PROMPTS = (Path(__file__).parent / "prompts.txt").read_text().splitlines()
"""The fixed prompts of the sample sheets."""
COMMON = frozenset((Path(__file__).parent / "common.txt").read_text().splitlines())
"""What people ask for; drawn COMMON_WEIGHT times as often as the rest."""
COMMON_WEIGHT = 8


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 3, H, W) in [-1, 1]; features (B, T, Y) and mask (B, T) of their captions."""

    images: np.ndarray
    text: np.ndarray
    mask: np.ndarray


class EmojiData:
    """Draws random pictures; everything lies in memory."""

    def __init__(self, folder: Path, held_out: bool = False) -> None:
        self.icons: Icons = load_icons(folder)
        self.bank: TextBank = load_bank(folder)
        captions = all_captions(self.icons.names)
        self.captions = [[c for c in own if c.held_out is held_out] for own in captions]
        wanted = np.array([COMMON_WEIGHT if name in COMMON else 1 for name in self.icons.names])
        weights = wanted * np.array([bool(own) for own in self.captions])
        self.weights = weights / weights.sum()

    def draw(self, size: int, resolution: int, dropout: float, rng: np.random.Generator) -> Batch:
        """A batch of `size` square pictures; a fraction `dropout` of the captions is empty."""
        which = rng.choice(len(self.captions), size, p=self.weights)
        captions = [self.captions[i][rng.integers(len(self.captions[i]))] for i in which]
        images = np.stack([self.paint(caption, resolution, rng) for caption in captions])
        texts = ["" if rng.random() < dropout else caption.text for caption in captions]
        return Batch(images.astype(np.float32) / 127.5 - 1, *self.bank.gather(texts))

    def paint(self, caption: Caption, resolution: int, rng: np.random.Generator) -> np.ndarray:
        """A picture that fits the caption: uint8 (3, resolution, resolution)."""
        style = rng.integers(len(STYLES)) if caption.style is None else caption.style
        size = int(rng.choice(SIZES)) * resolution // 32
        icon = self.icons.pixels[size][caption.icon, style]
        return compose(icon, caption.colour, resolution, rng)


def main(icons: Path = typer.Option(...), folder: Path = Path("data/emoji")) -> None:
    """Rasterise the SVGs below ICONS (fluentui-emoji/icons), encode all captions into FOLDER."""
    build_icons(icons, folder)
    names = load_icons(folder).names
    build_bank(names, PROMPTS, folder)
    typer.echo(f"{len(names)} icons, {len(load_bank(folder).index)} captions in {folder}")


if __name__ == "__main__":
    typer.run(main)
