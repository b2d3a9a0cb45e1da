"""What a picture file says of how it was made: in JSON (report.About), and as the web interfaces around write it.

A PNG has both as text, `flagdit` and `parameters`; a JPEG and a WebP one after the other in the UserComment of EXIF.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import ValidationError

from flagdit.engine.errors import RequestError
from flagdit.engine.media.picture import FORMATS
from flagdit.engine.report import About

NAME = "flagdit"
EXIF, COMMENT = 0x8769, 0x9286
"""Tags of EXIF: its own directory, and in it the UserComment."""
JPEG_BYTES = 65000
"""What a segment of a JPEG has room for."""


def options_of(about: About, path: Path) -> dict[str, Any]:
    """Pillow's options that write what is known of a picture into a file of that name.

    A JPEG has room for 64 KiB: a text that is too long leaves out what web interfaces read, then all.
    """
    data, kind = about.model_dump_json(), FORMATS[path.suffix.lower()]
    if kind == "PNG":
        text = PngInfo()
        text.add_text("parameters", parameters(about))
        text.add_itxt(NAME, data)
        return {"pnginfo": text}
    own = f"{NAME}: {json.dumps(data)}"
    exifs = (_exif(text) for text in (f"{parameters(about)}, {own}", own))
    return next(({"exif": exif} for exif in exifs if kind != "JPEG" or len(exif) <= JPEG_BYTES), {})


def parameters(about: About) -> str:
    """The prompts and a line of names and values, as Stable Diffusion web UI writes and reads them."""
    coarse = 0 if about.coarse is None else _count(about.coarse["steps"])
    facts = {
        "Steps": coarse + len(about.times) - 1,
        "Sampler": about.solver,
        "CFG scale": f"{about.guidance:g}",
        "Seed": about.seed,
        "Size": "x".join(map(str, about.size)),
        "Model hash": about.digest[:10],
        "Model": about.model,
        "Version": f"flagdit {about.version}",
    }
    negative = [f"Negative prompt: {about.negative}"] if about.negative else []
    line = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in facts.items())
    return "\n".join([str(about.prompt), *negative, line])


def read(path: Path) -> About:
    """What a picture says of itself. Raises RequestError if it is none, or says nothing that this flagdit can read."""
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            data = image.info.get(NAME) if image.format == "PNG" else _own(_comment(image))
    except Exception as error:  # of a damaged file Pillow raises what comes
        reason = " ".join(str(error).split())
        raise RequestError(f"{path}: cannot be read as a PNG, JPEG or WebP picture ({reason})") from None
    if not isinstance(data, str):
        raise RequestError(f"{path}: does not say how it was made; pictures of flagdit do, unless they were saved anew")
    try:
        return About.model_validate_json(data)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        fault = f"{where}: {error.errors()[0]['msg']}".removeprefix(": ")
        raise RequestError(f"{path}: was made by another version of flagdit, or changed since ({fault})") from None


def _count(steps: int | list[float]) -> int:
    return steps if isinstance(steps, int) else len(steps) - 1


def _quoted(value: str) -> str:
    """A value that has none of the signs between values, or that is in quotes."""
    return json.dumps(value, ensure_ascii=False) if set(value) & set(',:"\n\\') else value


def _exif(text: str) -> bytes:
    """EXIF with a UserComment: in ASCII if it is, which all readers know, or in UTF-16 as web interfaces read it.

    Written here, since Pillow gives the comment type 1 (bytes); by the standard, and for some readers, it is of 7.
    """
    coded = b"ASCII\0\0\0" + text.encode() if text.isascii() else b"UNICODE\0" + text.encode("utf-16-be")
    first = struct.pack(">2sHIHHHIII", b"MM", 42, 8, 1, EXIF, 4, 1, 26, 0)  # a directory at 8, of one entry
    return b"Exif\0\0" + first + struct.pack(">HHHIII", 1, COMMENT, 7, len(coded), 44, 0) + coded


def _comment(image: Image.Image) -> str:
    coded = image.getexif().get_ifd(EXIF).get(COMMENT, b"")
    code, text = coded[:8], coded[8:]
    return str(text.decode("utf-16-be" if code == b"UNICODE\0" else "ascii", "replace"))


def _own(comment: str) -> str | None:
    """The JSON of a comment: the value of that name in its last line, where no quoted value can hold the name so."""
    line = ", " + comment.rpartition("\n")[2]
    _, found, value = line.partition(f', {NAME}: "')
    return str(json.JSONDecoder().raw_decode(f'"{value}')[0]) if found else None
