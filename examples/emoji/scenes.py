"""What a picture shows, in data and in words: objects, their places, background and style."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STYLES = ("flat", "modern")
COLOURS = {
    "white": (250, 250, 250),
    "black": (24, 24, 28),
    "gray": (136, 140, 146),
    "red": (214, 46, 50),
    "orange": (246, 140, 38),
    "yellow": (252, 214, 62),
    "green": (62, 168, 84),
    "teal": (38, 166, 166),
    "blue": (52, 112, 220),
    "purple": (134, 76, 190),
    "pink": (248, 150, 190),
    "brown": (126, 84, 54),
}
BESIDE = ("left of", "right of")
UPRIGHT = ("above", "below")
CORNERS = ("top left corner", "top right corner", "bottom left corner", "bottom right corner")

MIX = (0.4, 0.2, 0.4)
"""How often scenes are of one object, one in a corner, and two; of what is measured, too."""
HELD_OUT = 32
"""One in so many pairs of object(s) and said background is never trained on."""


@dataclass(frozen=True)
class Background:
    """A colour above and one below; blended into each other, or meeting at an edge halfway."""

    top: str = "white"
    bottom: str = "white"
    blended: bool = False

    @property
    def phrase(self) -> str:
        """How a caption says it."""
        if self.top == self.bottom:
            return f"on {article(self.top)} background"
        if self.blended:
            return f"on {article(self.top)} to {self.bottom} gradient"
        return f"on {article(self.top)} and {self.bottom} background"


@dataclass(frozen=True)
class Scene:
    """One object, maybe in a corner, or two with the first one's place. None leaves a thing unsaid."""

    objects: tuple[str, ...]
    place: str | None = None
    background: Background | None = None
    style: str | None = None

    @property
    def held_out(self) -> bool:
        """Whether its objects on its background are kept for testing: in any style, place and wording."""
        if self.background is None:
            return False
        key = "/".join([*sorted(self.objects), self.background.phrase])
        return zlib.crc32(key.encode()) % HELD_OUT == 0

    def caption(self, with_articles: bool = True) -> str:
        """ "a red apple left of a blue book on a white background, flat style"."""
        names = [article(name) if with_articles else name for name in self.objects]
        if len(names) == 2:
            what = f" {self.place or 'and'} ".join(names)
        else:
            what = names[0] if self.place is None else f"{names[0]} in the {self.place}"
        said = what if self.background is None else f"{what} {self.background.phrase}"
        return said if self.style is None else f"{said}, {self.style} style"


def article(name: str) -> str:
    """ "red apple" -> "a red apple"."""
    if name.endswith("s") and not name.endswith(("ss", "us")):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def random_background(rng: np.random.Generator) -> Background:
    """Plain in three of five cases, else a gradient or two tones."""
    top, bottom = rng.choice(list(COLOURS), 2, replace=False)
    if rng.random() < 0.6:
        return Background(str(top), str(top))
    return Background(str(top), str(bottom), blended=bool(rng.random() < 0.5))


def random_scene(
    names: Sequence[str],
    weights: np.ndarray,
    canvas: tuple[int, int],
    rng: np.random.Generator,
    mix: tuple[float, float, float] = MIX,
) -> Scene:
    """A scene that fits a canvas of (width, height); weights (len(names),) and the mix sum to 1."""
    width, height = canvas
    one, corner, two = mix
    shares = list(mix) if width == height else [one + corner / 2, 0, two + corner / 2]
    kind = rng.choice(["one", "corner", "two"], p=shares)
    count = 2 if kind == "two" else 1
    objects = tuple(str(n) for n in rng.choice(names, count, replace=False, p=weights))
    place = None
    if kind == "corner":
        place = str(rng.choice(CORNERS))
    elif kind == "two" and rng.random() < 0.9:
        place = str(rng.choice([*(BESIDE if width >= height else ()), *(UPRIGHT if width <= height else ())]))
    background = random_background(rng) if rng.random() < 0.8 else None
    style = str(rng.choice(STYLES)) if rng.random() < 0.5 else None
    return Scene(objects, place, background, style)


Box = tuple[int, int, int]
"""Left edge, top edge and side of an object, in pixels."""


def boxes(scene: Scene, canvas: tuple[int, int], patch: int, rng: np.random.Generator) -> list[Box]:
    """Where the objects of a scene go: on whole patches, within a patch of the middle of their cells."""
    return [within(cell, patch, rng) for cell in cells(scene, canvas, rng)]


def cells(scene: Scene, canvas: tuple[int, int], rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """The part (left, top, width, height) of the canvas that each object has to itself."""
    width, height = canvas
    halves = width // 2, height // 2
    if len(scene.objects) == 1:
        if scene.place is None:
            return [(0, 0, width, height)]
        left = halves[0] if "right" in scene.place else 0
        return [(left, halves[1] if "bottom" in scene.place else 0, *halves)]
    place = scene.place
    if place is None:
        place = str(rng.choice(BESIDE if width >= height else UPRIGHT))
    if place in BESIDE:
        both = [(0, 0, halves[0], height), (halves[0], 0, halves[0], height)]
    else:
        both = [(0, 0, width, halves[1]), (0, halves[1], width, halves[1])]
    return both if place in ("left of", "above") else both[::-1]


def within(cell: tuple[int, int, int, int], patch: int, rng: np.random.Generator) -> Box:
    """A square of 7/8 of a cell's short side, a patch at most from its middle."""
    left, top, width, height = cell
    side = min(width, height) * 7 // 8 // patch * patch

    def start(room: int) -> int:
        last = room // patch  # the last place, in patches
        low, high = max(0, (last - 1) // 2), min(last, last // 2 + 1)
        return patch * int(rng.integers(low, high + 1))

    return left + start(width - side), top + start(height - side), side


def paint_background(background: Background, canvas: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Pixels (height, width, 3), float32 in 0 to 255; each colour a little off, like the world."""
    width, height = canvas
    top, bottom = (np.array(COLOURS[c], np.float32) for c in (background.top, background.bottom))
    y = (np.arange(height, dtype=np.float32) + 0.5) / height
    share = y if background.blended else (y > 0.5).astype(np.float32)
    rows = top + share[:, None] * (bottom - top) + rng.integers(-4, 5, 3)
    return np.broadcast_to(rows[:, None], (height, width, 3)).clip(0, 255)  # a copy
