"""Names of tensors in other layouts, by rules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flagdit.export.families.family import Config
from flagdit.export.tensors import Shapes

Rules = Sequence[tuple[str, str]]
"""A pattern of our name, and what it becomes; the first that is found in a name changes it, and all after it too."""


def renamed(name: str, rules: Rules) -> str:
    """A name after all rules, in their order."""
    for pattern, other in rules:
        name = re.sub(pattern, other, name)
    return name


def shape_of(shapes: Shapes, name: str, rank: int, rules: Rules = ()) -> tuple[int, ...]:
    """The shape of a tensor by our name. Raises ValueError if there is none of so many axes, or one is empty."""
    theirs = renamed(name, rules)
    found = shapes.get(theirs, ())
    if len(found) != rank or 0 in found:
        raise ValueError(f"it has no {theirs} of {rank} {'axis' if rank == 1 else 'axes'}")
    return found


def said_class(said: Config, wanted: str) -> None:
    """Raise ValueError if a configuration of diffusers is of another class."""
    found = said.get("_class_name")
    if found not in (None, wanted):
        raise ValueError(f"it is of a {found}")


def first(said: Config | None, names: Sequence[str], default: object) -> object:
    """What a configuration calls by one of these names."""
    values: Mapping[str, object] = said or {}
    return next((values[name] for name in names if name in values), default)


def number(value: object, name: str) -> float:
    """A number of a configuration. Raises ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {value!r}; allowed are numbers")
    return float(value)


def patch(said: Config | None, wanted: int | None, values: int) -> int:
    """The side of patches of so many values: what a configuration says, or somebody; 2, as all releases have."""
    size = first(said, ("patch_size", "all_patch_size"), wanted or 2)
    size = size[0] if isinstance(size, list | tuple) and len(size) == 1 else size
    if not isinstance(size, int) or isinstance(size, bool) or size < 1 or values % size**2:
        raise ValueError(f"a patch has {values} values, which patches of {size!r} do not make")
    return size
