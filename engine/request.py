"""What is asked for: checked when it is made, before anything is loaded or allocated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

from flagdit.engine.coarse import Coarse
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import Ntk
from flagdit.engine.presets import Preset
from flagdit.engine.ras import RasConfig, Solver

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

    def __post_init__(self) -> None:
        if not self.prompts:
            raise RequestError("there is no prompt; give at least one")
        if len(self.prompts) > MAX_PICTURES:
            raise RequestError(f"there are {len(self.prompts)} prompts; allowed are 1 to {MAX_PICTURES} at a time")
        if len(self.seeds) != len(self.prompts):
            raise RequestError(f"{len(self.prompts)} prompts and {len(self.seeds)} seeds; give one seed per prompt")
        for seed in self.seeds:
            checked_seed(seed)
        if not 0 <= self.guidance <= 100:
            raise RequestError(f"guidance is {self.guidance}; allowed are 0 to 100, 1 turns it off")
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
    ) -> Request:
        """A request that is sampled as `how` says (resolve.py)."""
        shift = 1.0 if how.shift is None else how.shift
        options = (how.ras, how.solver, ntk, proportional, how.weights, how.coarse)
        return cls(prompts, seeds, how.steps, size, guidance, shift, *options)

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
