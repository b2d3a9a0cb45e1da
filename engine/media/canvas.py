"""Pictures that a run begins with, and masks of them, as bytes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from flagdit.engine.errors import RequestError

Bytes = npt.NDArray[np.uint8]
Picture = Image.Image | Bytes | Path | str
"""A picture: one of Pillow, bytes (Y, X, 3) or (Y, X), or the path of a file."""


def pixels(picture: Picture, name: str) -> Bytes:
    """Bytes (Y, X, 3) of a picture in any colours, turned as its EXIF says; what is transparent in it shows.

    name: what messages call it. Raises RequestError if it is none.
    """
    if isinstance(picture, str | Path):
        return _read(Path(picture))
    if isinstance(picture, Image.Image):
        try:
            return _bytes(picture)
        except Exception as error:  # of a damaged file, which is read now, Pillow raises what comes
            raise RequestError(f"{name} cannot be read as a picture ({_reason(error)})") from None
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.shape[2:] not in ((), (3,)) or array.ndim < 2 or 0 in array.shape:
        raise RequestError(
            f"{name} is {array.dtype} {array.shape}; allowed are a picture of Pillow, a path, and uint8 (Y, X, 3) or "
            "(Y, X)"
        )
    return np.ascontiguousarray(array if array.ndim == 3 else np.repeat(array[:, :, None], 3, 2))


def _bytes(image: Image.Image) -> Bytes:
    """(Y, X, 3). Of 16 bits the upper 8 are taken: Pillow's own conversion makes all above 255 white."""
    image = _upright(image)
    if image.mode in ("I", "F"):
        raise ValueError(f"its values are of mode {image.mode}, in which nobody knows what white is; give bytes")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; as it is where that is damaged, which harms no pixel."""
    image.load()  # raises for a damaged picture
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF Pillow says much
        try:
            return ImageOps.exif_transpose(image)
        except Exception:  # or raises what comes
            return image


def _read(path: Path) -> Bytes:
    try:
        if not path.is_file():
            raise RequestError(f"{path}: there is no such file; give a picture")
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            return _bytes(image)
    except RequestError:
        raise
    except Exception as error:  # of a damaged file Pillow raises what comes
        raise RequestError(f"{path}: cannot be read as a PNG, JPEG or WebP picture ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())
