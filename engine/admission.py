"""Which requests a bundle and this machine can serve: decided before anything is loaded or allocated."""

from __future__ import annotations

from flagdit.engine.errors import RequestError
from flagdit.engine.leg import Leg, legs_of
from flagdit.engine.machine import memory_bytes
from flagdit.engine.manifest import ModelSpec
from flagdit.engine.request import Request
from flagdit.engine.text import Prompts


def admit(spec: ModelSpec, prompts: Prompts, request: Request, value_bytes: int) -> list[Leg]:
    """The legs of a run, planned. value_bytes: of each number that keys and values are kept in.

    Raises RequestError if a prompt is none or too long, an option is out of bounds, or the caches need more memory than
    the machine has.
    """
    for prompt in request.prompts:
        prompts.check(prompt)
    if request.negative:
        prompts.check(request.negative, "negative prompt")
    legs = legs_of(spec, request)
    needed, present = max(leg.price(value_bytes=value_bytes).cache_bytes for leg in legs), memory_bytes()
    if present is not None and needed > present:
        raise RequestError(
            f"the caches need {needed / 2**30:.1f} GiB and this machine has {present / 2**30:.1f} GiB; "
            "ask for a smaller size or fewer pictures at a time"
        )
    return legs
