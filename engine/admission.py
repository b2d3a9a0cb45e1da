"""Which requests a bundle and this machine can serve: decided before anything is loaded or allocated."""

from __future__ import annotations

from flagdit.cpp_ext import room
from flagdit.engine.leg import Leg, legs_of
from flagdit.engine.manifest import ModelSpec
from flagdit.engine.memory import check_memory, memory
from flagdit.engine.request import Request
from flagdit.engine.text import Prompts


def admit(spec: ModelSpec, prompts: Prompts, request: Request, precision: str, loaded: int = 0) -> list[Leg]:
    """The legs of a run, planned, in an engine of that precision.

    loaded: bytes that the process held when it had loaded the engine, 0 before.

    Raises RequestError if a prompt is none or too long, an option is out of bounds, or the run needs more memory than
    this process may hold.
    """
    for prompt in request.prompts:
        prompts.check(prompt)
    if request.negative:
        prompts.check(request.negative, "negative prompt")
    legs = legs_of(spec, request)
    plans, samples, size = [leg.plan for leg in legs], len(request.prompts), legs[-1].layout

    def needs(samples: int) -> int:
        return memory(spec, plans, precision, samples, request.branches).after(loaded)

    less = "" if precision == "int8-bf16" else ", or for the precision int8-bf16, which takes less"
    if any(plan.keeps.cache_slope for plan in plans):
        less += ", or do without forecast_kv"
    pictures = "a picture" if samples == 1 else f"{samples} pictures"
    check_memory(needs, room(), samples, f"{pictures} of {size.width}x{size.height} with {precision}", less)
    return legs
