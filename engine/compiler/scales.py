"""What the inputs of a model's products are divided by before they are rounded: found once, kept in a bundle.

Letters: K inputs of a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from flagdit.engine.bundle.json_file import parse_json
from flagdit.engine.bundle.spec import Digest, Spec
from flagdit.engine.errors import BuildError
from flagdit.files import write_file

SCALES = "scales.json"
"""The file of a bundle."""
MAX_BYTES = 64 << 20

Low = Literal["int8", "fp8"]
"""int8 or float8 (e4m3): what products multiply in."""
Positive = Annotated[float, Field(gt=0)]


class Range(Spec):
    """Of one input (A, R, K) over all runs: the largest magnitude of each of the K, and how much of them int8 keeps.

    kept: of the largest magnitude after the input is smoothed; what is above is cut off, so that the rest has finer
    levels.
    """

    largest: tuple[Annotated[float, Field(ge=0)], ...]
    kept: Annotated[float, Field(gt=0, le=1)] = 1.0


class Scales(Spec):
    """Ranges by the names of the values in `denoise`, and what they were found on: this graph's digest, prompts, steps.

    smoothing: how far outliers of an input move into its matrices, from 0 to 1 (SmoothQuant, 2211.10438, equation 4).
    """

    graph: Digest
    prompts: tuple[str, ...]
    calls: int
    smoothing: Annotated[float, Field(ge=0, le=1)]
    ranges: Mapping[str, Range]


def write_scales(path: Path, scales: Scales) -> None:
    """Raises OutputError if it cannot be written."""
    write_file(path, scales.model_dump_json() + "\n")


def read_scales(path: Path) -> Scales:
    """Raises BuildError if the file holds none."""
    try:
        return Scales.model_validate(parse_json(path.read_bytes(), path))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise BuildError(f"{path}: {where}: {fault['msg']}; remove it, and they are found anew") from None
