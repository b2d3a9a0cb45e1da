"""Icons of the npm package `fluentui-emoji`, rasterised once.

Letters: I icons, S styles, C channels, s icon size in pixels. Pixels are premultiplied RGBA, uint8.
"""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from flagdit.files import write_file
from scenes import STYLES

# Every side that a scene gives an object (scenes.within) on canvases of 64 and 128 pixels, 1:2 to 2:1.
SIZES = (28, 40, 56, 84, 112)
RENDER_SIZE = 224

# What nobody asks a painter for: signs, letters, clocks, arrows, families, near-duplicates.
EXCLUDED = re.compile(
    r"""(^|-)(antenna-bars|arrows?|asterisk|atom|baggage|banknote|bell-with|bicycles|biohazard|blood-type
    |bookmark|breast-feeding|bunny-ears|busts?|buttons?|cableway|card-|chart|circle|circled|clipboard
    |copyright|cross|currency|customs|diamond|divide|dotted|eighteen|entry|equals|facing-right|files?
    |flags?|fleur-de-lis|folder|footprints|genie|gestures?|globe-with|heart-exclamation|hollow|hourglass
    |index|infinity|input|japanese|kaaba|keycap|khanda|knobs|label|leftwards|linked|littering|loop|luggage
    |mahjong|mailbox|map-of|mark|medical-symbol|menorah|minus|mobile-phones|mode|moon-viewing|multiply
    |nazar-amulet|oclock|om|oncoming|page|part-alternation|passport|peace|pedestrians|people|placard
    |place-of-worship|plus|pointing|potable|prohibited|radioactive|railway-car|receipt|recycling
    |registered|restroom|shaking-(horizontally|vertically)|sign|skullcap|slider|smoking|speaker
    |speaking-head|square|star-of|steamy-room|stop-sign|stuffedbread|suit|suspension-railway|symbol
    |thirty|trade-mark|tray|triangle|trident|turban|water-closet|wavy|wireless|womens-room|mens-room
    |wrestling|yin-yang|zombie|zzz|aquarius|aries|cancer|capricorn|gemini|leo|libra|ophiuchus|pisces
    |sagittarius|scorpio|taurus|virgo|wheel-of|hindu-temple|middle-finger|star-and-crescent|trolleybus)(-|$)
    |^(person|man|woman|people|men|women|mx|pregnant|older|palms?(?!-tree)|left|right|rightwards)-""",
    re.VERBOSE,
)
# Where people use another word than Unicode does.
RENAMED = {
    "automobile": "car",
    "closed-book": "red book",
    "articulated-lorry": "truck",
    "beer-mug": "beer",
    "deciduous-tree": "tree",
    "doughnut": "donut",
    "e-mail": "email",
    "ear-of-corn": "corn",
    "high-voltage": "lightning bolt",
    "honeybee": "bee",
    "hot-beverage": "cup of coffee",
    "jack-o-lantern": "halloween pumpkin",
    "lady-beetle": "ladybug",
    "magnifying-glass-tilted-left": "magnifying glass",
    "locked": "padlock",
    "pile-of-poo": "poop",
    "wrapped-gift": "gift",
}


@dataclass(frozen=True)
class Icons:
    """The raster cache: names in order, and one array (I, S, s, s, 4) for each icon size s."""

    names: list[str]
    pixels: dict[int, np.ndarray]


def icon_names(root: Path) -> dict[str, str]:
    """File stem -> what people call it ("red-apple" -> "red apple"), without what is left out."""
    names: dict[str, str] = {}
    for path in sorted((root / STYLES[0]).glob("*.svg")):
        stem = path.stem.removesuffix("-default")
        toned = re.search(r"-(dark|light|medium)$", stem)
        if not toned and not EXCLUDED.search(stem) and (root / STYLES[1] / path.name).exists():
            names[path.stem] = RENAMED.get(stem, stem.replace("-", " "))
    return names


def rasterise(path: Path) -> Image.Image:
    """One SVG as a square premultiplied image of RENDER_SIZE."""
    import resvg_py  # needed here only: what was rasterised can be used without it

    png = resvg_py.svg_to_bytes(svg_path=str(path), width=RENDER_SIZE, height=RENDER_SIZE)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA").convert("RGBa")


def build_icons(root: Path, folder: Path) -> None:
    """Rasterise every icon in every style and size into `folder`."""
    names = icon_names(root)
    pixels = {s: np.zeros((len(names), len(STYLES), s, s, 4), np.uint8) for s in SIZES}
    for i, stem in enumerate(track(names, "rasterising")):
        for j, style in enumerate(STYLES):
            image = rasterise(root / style / f"{stem}.svg")
            for s in SIZES:
                pixels[s][i, j] = np.asarray(image.resize((s, s), Image.Resampling.BOX))
    folder.mkdir(parents=True, exist_ok=True)
    for s in SIZES:
        file = io.BytesIO()
        np.save(file, pixels[s])
        write_file(folder / f"icons-{s}.npy", file.getbuffer())
    write_file(folder / "icons.json", json.dumps(list(names.values()), indent=0))


def load_icons(folder: Path) -> Icons:
    """Read what `build_icons` wrote."""
    names = json.loads((folder / "icons.json").read_text())
    return Icons(names, {s: np.load(folder / f"icons-{s}.npy") for s in SIZES})
