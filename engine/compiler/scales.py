"""What the inputs of a model's products reach, which says how they are rounded: found once, kept in a bundle.

Letters: K inputs of a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from flagdit.engine.bundle import regular
from flagdit.engine.bundle.json_file import parse_json
from flagdit.engine.bundle.spec import Digest, Spec
from flagdit.engine.errors import BuildError
from flagdit.files import write_file

SCALES = "scales.json"
"""The file of a bundle."""

MAX_BYTES = 64 << 20
"""Of it: a model of 32 layers of 4096 has some 15 MB."""

Low = Literal["int8", "fp8"]
"""int8 or float8 (e4m3): what products multiply in."""
Magnitude = Annotated[float, Field(ge=0)]


class Scales(Spec):
    """What inputs of products reach, and what that was found on: a graph, by its digest, and prompts, in so many calls.

    largest: by the name of an input (A, R, K) in `denoise`, the largest magnitude of each of the K. typical: that of a
    token, on average.
    """

    graph: Digest
    prompts: tuple[str, ...]
    calls: int
    largest: Mapping[str, tuple[Magnitude, ...]]
    typical: Mapping[str, Magnitude]


def write_scales(path: Path, scales: Scales) -> None:
    """Raises OutputError if it cannot be written."""
    write_file(path, scales.model_dump_json() + "\n")


def read_scales(path: Path) -> Scales:
    """Raises BuildError if the file holds none, BundleError if it is no JSON, too large, or no regular file."""
    try:
        return Scales.model_validate(parse_json(regular.read(path, MAX_BYTES), path))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise BuildError(f"{path}: {where}: {fault['msg']}; remove it, and they are found anew") from None
