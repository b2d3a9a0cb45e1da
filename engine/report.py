"""What a run did, as data: `report.json`, which the core writes (told.h)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from flagdit.engine.layout import Ntk
from flagdit.engine.version import version_of


class StepReport(BaseModel):
    """One step: the time it starts at, the tokens it computed, in how many evaluations, how long it took.

    size, tokens: of the picture that it worked on, which is smaller than the run's in coarse steps.
    branches: of guidance that it computed: 2, with one that skips layers 3, 1 if it reused their difference or there
    is no guidance, 0 if the gate passed it over.
    """

    index: int
    t: float
    active: int
    dense: bool
    size: tuple[int, int]
    tokens: int
    evaluations: int
    branches: int
    seconds: float


class About(BaseModel):
    """How pictures were made: all that it takes to make them again.

    digest: SHA-256 of the model's weights. bundle: the name that it was loaded by, without its folders.
    backend, precision: of the engine; what it multiplied in. negative: the prompt of the unconditional branch.
    preset: that was begun with, None if there was none. options: what was said besides, as in resolve.Options; None if
    the request was made without. ras: the options of region-adaptive sampling, as in RasConfig. times: that the steps
    lie between. weights: of each step, in place of the solver's own; empty if there are none. coarse: what the run
    began with at a smaller size, as in Coarse; shift, times, ras, solver and weights are of the full size.
    image: of a run that began with a picture: its strength, and whether it was masked. embeds: whether features were
    given, so that prompts are names alone. noise: of the seed, or given.
    tile: pixels of the side of tiles that it was decoded in, 0 for the whole at once.
    skip_layer_guidance: scale, start, stop and layers, as in SkipLayerGuidance.
    ntk: what multiplied theta, 1 if nothing did; ntk_option: how it was asked for. pictures: that were made together.
    """

    version: str = Field(default_factory=lambda: version_of("flagdit"))
    model: str
    digest: str
    bundle: str
    backend: str
    precision: str
    prompt: str | list[str]
    negative: str
    seed: int | list[int]
    size: tuple[int, int]
    guidance: float
    skip_layer_guidance: dict[str, Any] | None = None
    ntk: float
    ntk_option: Ntk
    proportional: bool
    preset: str | None
    options: dict[str, Any] | None
    shift: float
    times: list[float]
    ras: dict[str, Any]
    solver: str
    weights: list[tuple[float, float, float]]
    coarse: dict[str, Any] | None
    image: dict[str, Any] | None = None
    embeds: bool = False
    noise: str = "seed"
    tile: int = 0
    pictures: int

    def alone(self, index: int) -> About:
        """What there is to say of the index-th picture alone."""
        said = {name: getattr(self, name) for name in About.model_fields}
        if isinstance(self.prompt, list) and isinstance(self.seed, list):
            said |= {"prompt": self.prompt[index], "seed": self.seed[index]}
        return About(**said)


class Report(About):
    """A run: what was asked for, what was planned, and what it took.

    tokens, pinned and max_age are of the full size.
    seconds: by stage (text_encoder, condition, allocate, denoise, host, decode) and their "total"; with a picture to
    begin with also encode; pictures of an autoencoder are decoded when they are asked for, after the report; what the
    caller does between two steps does not count. evaluations: of the velocity, one or two a step as the solver needs,
    none in a step that the gate passed over; each is one call of `denoise`, or one a branch if the run reuses the
    guidance difference.
    gpu: on a GPU its name, bytes of the run's state, steps that were captured as CUDA graphs, the nodes of each step's
    graph (0: launched piece by piece), why none could be ("plain"), and the seconds that the host took to enqueue all
    of it; there "denoise" is all that steps enqueue, and the host's work is done meanwhile.
    flop_ratio: FLOPs of the run over those of dense sampling with the same solver, that is of as many dense
    evaluations at the full size as were planned in all; expected_speedup is its inverse, the bound that time can
    reach.
    """

    evaluations: int
    tokens: int
    pinned: int
    max_age: int
    flop_ratio: float
    expected_speedup: float
    cache_bytes: int
    seconds: dict[str, float]
    gpu: dict[str, Any] | None = None
    steps: list[StepReport]
