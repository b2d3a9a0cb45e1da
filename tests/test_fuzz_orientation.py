"""EXIF of other programs, whole or damaged: which way up a picture is, as Pillow reads it."""

from __future__ import annotations

import random
import struct

import pytest
from fuzz import CASES, PARTS, check_cases, rng_of
from PIL import Image

from flagdit.cpp_ext import exif_orientation

NAME = b"Exif\0\0"
ORIENTATION, SOFTWARE, WIDTH = 0x0112, 0x0131, 0x0100


def written(order: str, orientation: int, *, kind: int = 3, before: int = 0, after: int = 0) -> bytes:
    """A directory of tags in that order of bytes ("<" or ">"), the orientation between others."""
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *((orientation, 0) if kind == 3 else (orientation,)))
    others = [(WIDTH + i, 4, 1, struct.pack(order + "I", 7)) for i in range(before + after)]
    entries = [*others[:before], (ORIENTATION, kind, 1, value), *others[before:]]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    made = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    return head + struct.pack(order + "H", len(entries)) + made + bytes(4)


def pillows(exif: bytes) -> int:
    """0 where there is no such tag."""
    read = Image.Exif()
    read.load(NAME + exif)
    return int(read.get(ORIENTATION, 0))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_pillow_reads(order: str, orientation: int) -> None:
    for kind in (3, 4):
        exif = written(order, orientation, kind=kind, before=2, after=3)
        assert exif_orientation(exif) == exif_orientation(NAME + exif) == pillows(exif) == orientation


def test_what_pillow_writes() -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[SOFTWARE] = 6, "a program whose name is longer than a number"
    assert exif_orientation(exif.tobytes()) == 6
    del exif[ORIENTATION]
    assert exif_orientation(exif.tobytes()) == 0


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_numbers_that_say_nothing(value: int) -> None:
    assert exif_orientation(written(">", value)) == 1


def damaged(rng: random.Random) -> bytearray:
    tags = {"before": rng.randrange(3), "after": rng.randrange(3)}
    data = bytearray(written(rng.choice("<>"), rng.randrange(1, 9), kind=rng.choice((3, 4)), **tags))
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(data))
        if rng.random() < 0.3:
            del data[at:]
        else:
            data[at] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        if not data:
            break
    if len(data) >= 8 and rng.random() < 0.3:  # a directory that begins elsewhere
        order = "<" if data[:1] == b"I" else ">"
        data[4:8] = struct.pack(order + "I", rng.choice((0, 7, len(data) - 1, len(data), 2**31, 2**32 - 1)))
    return data


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_bytes_are_read_or_say_nothing(part: int) -> None:
    rng = rng_of("orientation", part)

    def check(case: bytearray) -> bool:
        found = exif_orientation(bytes(case))
        assert 0 <= found <= 8
        return found != 0

    assert CASES >= PARTS
    check_cases(lambda: damaged(rng), check, bytes.hex, 5)
