"""A picture to begin with is turned as its EXIF says, in Python and in the program without Python."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, PngImagePlugin
from test_fuzz_orientation import written
from test_runtime import PROMPT, environment, pytestmark, run  # noqa: F401

from flagdit.engine.media.canvas import pixels

Bytes = npt.NDArray[np.uint8]
SOURCE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="{0}"/><tiff:Orientation>3</tiff:Orientation></x:xmpmeta>'


def looked_at(orientation: int) -> Bytes:
    """The source as the standard's table describes it: where its first line and its first column are."""
    ways: dict[int, Callable[[Bytes], Bytes]] = {
        1: lambda x: x,  # top, left
        2: lambda x: x[:, ::-1],  # top, right
        3: lambda x: x[::-1, ::-1],  # bottom, right
        4: lambda x: x[::-1],  # bottom, left
        5: lambda x: x.swapaxes(0, 1),  # left, top
        6: lambda x: x.swapaxes(0, 1)[:, ::-1],  # right, top
        7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
        8: lambda x: x.swapaxes(0, 1)[::-1],  # left, bottom
    }
    return ways[orientation](SOURCE)


def save(path: Path, orientation: int, how: str = "exif") -> None:
    """A PNG that says so in a chunk, as older programs did, or as XMP does."""
    exif, info = written(">", orientation, before=1), PngImagePlugin.PngInfo()
    if how == "profile":
        digits = "\n".join(exif.hex()[i : i + 72] for i in range(0, 2 * len(exif), 72))
        info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{digits}\n", zip=True)
    if how in ("xmp", "both"):
        info.add_itxt("XML:com.adobe.xmp", XMP.format(orientation), zip=True)
    chunk = {"exif": exif, "both": written("<", 1), "damaged": exif[:12], "none": b"what is no EXIF"}.get(how, b"")
    Image.fromarray(SOURCE).save(path, pnginfo=info, exif=chunk)


CASES = [*((n, "exif", n) for n in range(1, 9)), (6, "profile", 6), (8, "xmp", 8), (9, "xmp", 1), (6, "both", 1)]
CASES += [(6, "damaged", 1), (6, "none", 1)]


@pytest.mark.parametrize(("orientation", "how", "found"), CASES)
def test_python_and_the_program_see_the_same(
    environment: dict[str, str],  # noqa: F811
    tmp_path: Path,
    orientation: int,
    how: str,
    found: int,
) -> None:
    save(tmp_path / "image.png", orientation, how)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(pixels(tmp_path / "image.png", "image"), looked_at(found))
    Image.fromarray(looked_at(found)).save(tmp_path / "plain.png")
    made = []
    for name in ("image", "plain"):
        options = ("--image", tmp_path / f"{name}.png", "--strength", 0.3, "--steps", 3)
        done = run(environment, PROMPT, *options, "-q", "-o", tmp_path / f"{name}-made.png")
        assert done.returncode == 0, done.stderr
        made.append(np.asarray(Image.open(tmp_path / f"{name}-made.png")))
    np.testing.assert_array_equal(*made)
    assert made[0].shape == looked_at(found).shape
