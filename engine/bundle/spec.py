"""How files of JSON are read: what is not known is refused, nothing is guessed."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

Size = tuple[Annotated[int, Field(ge=1, le=65536)], Annotated[int, Field(ge=1, le=65536)]]


PLAIN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


def _plain_name(name: str) -> str:
    """A file beside the manifest: no folder, no way out of the bundle."""
    if not re.fullmatch(PLAIN, name):
        raise ValueError("is not a plain file name")
    return name


FileName = Annotated[str, AfterValidator(_plain_name), WithJsonSchema({"type": "string", "pattern": PLAIN})]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Spec(BaseModel):
    """Read strictly: what is not known is refused, nothing is guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=2000)
