"""Which requests a bundle and this machine can serve: decided before anything is loaded or allocated."""

from __future__ import annotations

import os

from flagdit.cpp_ext import Job, Prompts, check_texts, job_of, room
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.model import model_of
from flagdit.engine.request import Request


def admit(spec: ModelSpec, prompts: Prompts, request: Request, *, precision: str, loaded: int = 0) -> Job:
    """The job of a run, planned, in an engine of that precision.

    loaded: bytes that the process held when it had loaded the engine, 0 before.

    Raises RequestError if a prompt is none or too long, an option is out of bounds, or the run needs more memory than
    this process may hold; BackendError for prompts where there is no text encoder.
    """
    check_texts(request, prompts)
    model = model_of(spec)
    job = job_of(request, model)
    job.admit(model, precision, room(), loaded, os.cpu_count() or 1)
    return job
