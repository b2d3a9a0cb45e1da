"""Pictures of emoji with captions; `python examples/emoji/data.py --icons DIR` prepares the icons."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from icons import Icons, build_icons, load_icons
from scenes import MIX, STYLES, Background, Scene, boxes, paint_background, random_scene

PROMPTS = (Path(__file__).parent / "prompts.txt").read_text().splitlines()
"""The fixed prompts of the sample sheets."""
COMMON = frozenset((Path(__file__).parent / "common.txt").read_text().splitlines())
"""What people ask for."""
PATCH = 4

Canvas = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 3, H, W) in [-1, 1], what they show, and their captions, some of them empty."""

    images: np.ndarray
    scenes: list[Scene]
    texts: list[str]


class EmojiData:
    """Draws random pictures; all icons lie in memory.

    rest: how often an icon that is not in common.txt is drawn, against one that is; 0 leaves them out.
    mix: shares of scenes of one object, one in a corner, and two; held-out ones are always of the usual mix.
    """

    def __init__(self, folder: Path, rest: float = 0.0, mix: tuple[float, float, float] = MIX) -> None:
        self.icons: Icons = load_icons(folder)
        self.mix = mix
        self.index = {name: i for i, name in enumerate(self.icons.names)}
        weights = np.array([1 if name in COMMON else rest for name in self.icons.names])
        self.names = [name for name, weight in zip(self.icons.names, weights, strict=True) if weight]
        self.weights = weights[weights > 0] / weights.sum()

    def scenes(self, count: int, canvas: Canvas, rng: np.random.Generator, held_out: bool = False) -> list[Scene]:
        """Random scenes that fit a canvas; those kept for testing, or none of them."""
        scenes: list[Scene] = []
        mix = MIX if held_out else self.mix
        while len(scenes) < count:
            scene = random_scene(self.names, self.weights, canvas, rng, mix)
            if scene.held_out is held_out:
                scenes.append(scene)
        return scenes

    def draw(
        self, size: int, canvas: Canvas, dropout: float, rng: np.random.Generator, held_out: bool = False
    ) -> Batch:
        """A batch of `size` pictures; a fraction `dropout` of the captions is empty."""
        scenes = self.scenes(size, canvas, rng, held_out)
        texts = ["" if rng.random() < dropout else scene.caption(rng.random() < 0.85) for scene in scenes]
        return Batch(self.paint_all(scenes, canvas, rng), scenes, texts)

    def paint_all(self, scenes: Sequence[Scene], canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
        """Pictures (B, 3, H, W) in [-1, 1], float32."""
        images = np.stack([self.paint(scene, canvas, rng) for scene in scenes])
        return images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1

    def paint(self, scene: Scene, canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
        """A picture of the scene, (H, W, 3), 0 to 255; what the scene leaves unsaid is chosen here."""
        picture = paint_background(scene.background or Background(), canvas, rng)
        style = rng.integers(len(STYLES)) if scene.style is None else STYLES.index(scene.style)
        for name, (left, top, side) in zip(scene.objects, boxes(scene, canvas, PATCH, rng), strict=True):
            icon = self.icons.pixels[side][self.index[name], style].astype(np.float32)
            view = picture[top : top + side, left : left + side]
            view[:] = icon[..., :3] + view * (1 - icon[..., 3:] / 255)
        return picture


def main(icons: Path = typer.Option(...), folder: Path = Path("data/emoji")) -> None:
    """Rasterise the SVGs below ICONS (fluentui-emoji/icons) into FOLDER."""
    build_icons(icons, folder)
    names = load_icons(folder).names
    missing = sorted(COMMON - set(names))
    if missing:
        raise typer.BadParameter(f"common.txt names what {icons} lacks: {', '.join(missing)}")
    typer.echo(f"{len(names)} icons in {folder}")


if __name__ == "__main__":
    typer.run(main)
