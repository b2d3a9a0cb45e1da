"""What is asked for: checked when it is made, before anything is loaded or allocated."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral

from flagdit.engine.coarse import Coarse
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import Ntk
from flagdit.engine.presets import Preset
from flagdit.engine.ras import RasConfig, Solver
from flagdit.engine.resolve import Options

MAX_NTK = 10_000

MAX_PICTURES = 1024
"""At a time: the machine's memory allows fewer, in most cases."""

MAX_SEED = 2**64 - 1


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
        if not checked_prompts(self.prompts):
            raise RequestError("there is no prompt; give at least one")
        if len(self.prompts) > MAX_PICTURES:
            raise RequestError(f"there are {len(self.prompts)} prompts; allowed are 1 to {MAX_PICTURES} at a time")
        if len(self.seeds) != len(self.prompts):
            raise RequestError(f"{len(self.prompts)} prompts and {len(self.seeds)} seeds; give one seed per prompt")
        for seed in self.seeds:
            checked_seed(seed)
        if not 0 <= self.guidance <= 100:
            raise RequestError(f"guidance is {self.guidance}; allowed are 0 to 100, 1 turns it off")
        _check_negative(self.negative, self.guidance)
        if self.ntk not in (None, "auto") and not (isinstance(self.ntk, float | int) and 1 <= self.ntk <= MAX_NTK):
            raise RequestError(f"ntk is {self.ntk!r}; allowed are 'auto', a factor of 1 to {MAX_NTK}, and None (off)")
        if self.coarse is not None and self.ras.mode == "paper":
            raise RequestError("paper mode does not begin coarse: the published code has one size; leave coarse out")
        if self.coarse is not None and self.coarse.factor == 1:
            raise RequestError("the factor of coarse is 1, which is none; leave coarse out")

    @classmethod
    def of(
        cls,
        how: Preset,
        prompts: list[str],
        seeds: list[int],
        size: tuple[int, int] | None = None,
        guidance: float = 4.0,
        ntk: Ntk = None,
        proportional: bool = False,
        negative: str = "",
        options: Options | None = None,
    ) -> Request:
        """A request that is sampled as `how` says, which came of `options` (resolve.py)."""
        shift = 1.0 if how.shift is None else how.shift
        more = (how.ras, how.solver, ntk, proportional, how.weights, how.coarse, negative, options)
        return cls(prompts, seeds, how.steps, size, guidance, shift, *more)

    @property
    def branches(self) -> int:
        """Guidance branches: at a guidance of 1 the unconditional one has no part in the result."""
        return 1 if self.guidance == 1 else 2


def checked_seed(seed: int) -> int:
    """The seed, if it is one of 64 bits without a sign. Raises RequestError."""
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise RequestError(f"seed {seed!r} is no integer; allowed are 0 to {MAX_SEED} (2^64 - 1)")
    if not 0 <= seed <= MAX_SEED:
        raise RequestError(f"seed {seed} is out of bounds; allowed are 0 to {MAX_SEED} (2^64 - 1)")
    return int(seed)


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


def _check_negative(negative: str, guidance: float) -> None:
    """Refuse a negative prompt that is no text, or that has no part in the picture."""
    if not isinstance(negative, str):
        raise RequestError(f"negative is of type {type(negative).__name__}; allowed is one text, for all pictures")
    if negative and not negative.strip():
        raise RequestError("the negative prompt is blank; leave it out, or say what the picture should not show")
    if negative and guidance == 1:
        raise RequestError("there is a negative prompt and guidance is 1, which turns it off; give another guidance")
