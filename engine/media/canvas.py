"""Pictures that a run begins with, and masks of them, as bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from flagdit.engine.errors import RequestError

Bytes = npt.NDArray[np.uint8]
Picture = Image.Image | Bytes | Path | str
"""A picture: one of Pillow, bytes (Y, X, 3) or (Y, X), or the path of a file."""


def pixels(picture: Picture, name: str) -> Bytes:
    """Bytes (Y, X, 3) of a picture in any colours; what is transparent in it shows. name: what messages call it.

    Raises RequestError if it is none.
    """
    if isinstance(picture, str | Path):
        picture = _read(Path(picture))
    if isinstance(picture, Image.Image):
        return np.ascontiguousarray(np.asarray(picture.convert("RGB")))
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.shape[2:] not in ((), (3,)) or array.ndim < 2 or 0 in array.shape:
        raise RequestError(
            f"{name} is {array.dtype} {array.shape}; allowed are a picture of Pillow, a path, and uint8 (Y, X, 3) or "
            "(Y, X)"
        )
    return np.ascontiguousarray(array if array.ndim == 3 else np.repeat(array[:, :, None], 3, 2))


def _read(path: Path) -> Image.Image:
    if not path.is_file():
        raise RequestError(f"{path}: there is no such file; give a picture")
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            return image.convert("RGB")
    except Exception as error:  # of a damaged file Pillow raises what comes
        reason = " ".join(str(error).split())
        raise RequestError(f"{path}: cannot be read as a PNG, JPEG or WebP picture ({reason})") from None
