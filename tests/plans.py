"""Plans and what they keep with other parts: the core's are read-only."""

from __future__ import annotations

from typing import TypeVar

from flagdit.cpp_ext import Keeps, Plan

Part = TypeVar("Part", Plan, Keeps)


def changed(part: Part, **changes: object) -> Part:
    """The same with other attributes."""
    kind = type(part)
    names = [name for name, value in vars(kind).items() if isinstance(value, property)]
    return kind(**{name: getattr(part, name) for name in names} | changes)
