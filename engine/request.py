"""What is asked for: checked when it is made, before anything is loaded or allocated."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flagdit.cpp_ext import check_request, checked_seed
from flagdit.engine.coarse import Coarse
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import Ntk
from flagdit.engine.presets import Preset
from flagdit.engine.ras import RasConfig, Solver
from flagdit.engine.resolve import Options

__all__ = ["Request", "checked_prompts", "checked_seed", "drawn_seed"]


@dataclass(frozen=True)
class Request:
    """What to generate: one picture per prompt, each from its own seed.

    steps: how many, shifted by `shift`; or the times they lie between, as they are, from 0 (noise) to 1 (data).
    weights: of each step, in place of the solver's own (solver.h).
    coarse: what begins at a smaller size; the steps are then those at the full one, from the time `coarse.until`.
    ntk, proportional: for sizes the model was not trained at, see layout.ntk_factor and layout.base_tokens.
    negative: the prompt of the unconditional branch, of all pictures: what guidance leads away from.
    options: what was said of how to sample; steps, shift, ras, solver, weights and coarse are what came of it.
    """

    prompts: list[str]
    seeds: list[int]
    steps: int | Sequence[float]
    size: tuple[int, int] | None
    guidance: float
    shift: float
    ras: RasConfig
    solver: Solver = "euler"
    ntk: Ntk = None
    proportional: bool = False
    weights: Sequence[tuple[float, float, float]] = ()
    coarse: Coarse | None = None
    negative: str = ""
    options: Options | None = None

    def __post_init__(self) -> None:
        checked_prompts(self.prompts)
        if not isinstance(self.negative, str):
            kind = type(self.negative).__name__
            raise RequestError(f"negative is of type {kind}; allowed is one text, for all pictures")
        check_request(self)

    @classmethod
    def of(
        cls,
        how: Preset,
        prompts: list[str],
        seeds: list[int],
        *,
        size: tuple[int, int] | None = None,
        guidance: float = 4.0,
        ntk: Ntk = None,
        proportional: bool = False,
        negative: str = "",
        options: Options | None = None,
    ) -> Request:
        """A request that is sampled as `how` says, which came of `options` (resolve.py)."""
        shift = 1.0 if how.shift is None else how.shift
        return cls(
            prompts=prompts,
            seeds=seeds,
            steps=how.steps,
            size=size,
            guidance=guidance,
            shift=shift,
            ras=how.ras,
            solver=how.solver,
            ntk=ntk,
            proportional=proportional,
            weights=how.weights,
            coarse=how.coarse,
            negative=negative,
            options=options,
        )

    @property
    def branches(self) -> int:
        """Guidance branches: at a guidance of 1 the unconditional one has no part in the result."""
        return 1 if self.guidance == 1 else 2


def drawn_seed() -> int:
    """A seed from the system's randomness, below 2^32: short enough to be typed again."""
    return secrets.randbelow(2**32)


def checked_prompts(prompts: Sequence[str]) -> list[str]:
    """The prompts as a list. Raises RequestError for one text, whose letters would be prompts, and for no text."""
    if not isinstance(prompts, Iterable):
        raise RequestError(f"prompts is of type {type(prompts).__name__}; allowed is a list of texts")
    if isinstance(prompts, str | bytes):
        start = json.dumps(str(prompts[:40]), ensure_ascii=False)
        raise RequestError(f"prompts is one text, and each of its letters would be a prompt; give a list: [{start}]")
    texts = list(prompts)
    for text in texts:
        if not isinstance(text, str):
            kind = type(text).__name__
            raise RequestError(f"a prompt is of type {kind}; allowed is text, and of several a list of texts: prompts=")
    return texts
