"""What is asked for: checked when it is made, before anything is loaded or allocated."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import check_request, checked_seed
from flagdit.engine.coarse import Coarse
from flagdit.engine.embeds import Features, numbers
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import FloatArray, Ntk
from flagdit.engine.media.canvas import Picture, pixels
from flagdit.engine.presets import Preset
from flagdit.engine.ras import RasConfig, Solver
from flagdit.engine.resolve import Options
from flagdit.engine.skip_layers import SkipLayerGuidance

__all__ = ["Request", "checked_prompts", "checked_seed", "checked_seeds", "drawn_seed"]


@dataclass(frozen=True)
class Given:
    """What a run begins with, and how its end is decoded: those fields of a Request."""

    image: npt.NDArray[np.uint8] | None = None
    mask: npt.NDArray[np.uint8] | None = None
    strength: float | None = None
    noise: FloatArray | None = None
    tile: int | None = None
    embeds: Sequence[Features] | None = None
    negative_embeds: Features | None = None

    @classmethod
    def of(
        cls,
        image: Picture | None = None,
        mask: Picture | None = None,
        strength: float | None = None,
        *,
        noise: npt.ArrayLike | None = None,
        tile: int | None = None,
    ) -> Given:
        """Of pictures, or paths of them. Raises RequestError if one is none, or there is a mask alone."""
        if mask is not None and image is None:
            raise RequestError("there is a mask and no picture that it is of; give an image")
        read = [None if each is None else pixels(each, name) for each, name in ((image, "image"), (mask, "mask"))]
        values = None if noise is None else numbers(noise, "latents")
        if values is not None and not np.isfinite(values).all():
            raise RequestError("latents have values that are no numbers in float32; allowed is noise of unit size")
        return cls(read[0], read[1], strength, values, tile)

    def sized(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """The size that was said, or the picture's. Raises RequestError if it is none."""
        if size is not None:
            check_size(size)
        return size if size is not None or self.image is None else (self.image.shape[1], self.image.shape[0])

    def parts(self) -> dict[str, Any]:
        """By the names of a request's fields."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True)
class Request:
    """What to generate: one picture per prompt, each from its own seed.

    steps: how many, shifted by `shift`; or the times they lie between, as they are, from 0 (noise) to 1 (data).
    weights: of each step, in place of the solver's own (solver.h).
    coarse: what begins at a smaller size; the steps are then those at the full one, from the time `coarse.until`.
    skip_layer_guidance: a branch of guidance besides, see SkipLayerGuidance.
    ntk, proportional: for sizes the model was not trained at, see layout.ntk_factor and layout.base_tokens.
    negative: the prompt of the unconditional branch, of all pictures: what guidance leads away from.
    image: (Y, X, 3) that the run begins with, of which a mask (Y, X, 3) says in white what is painted anew. strength:
    how much of the way from noise is gone, by default .6, with a mask 1. noise: latents (B, C, H, W) at time 0 in place
    of the seeds'. tile: pixels of the side of tiles to decode in, 0 for none, None for what memory asks for.
    embeds, negative_embeds: features by name (embeds.py) of each prompt, and of the unconditional branch.
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
    skip_layer_guidance: SkipLayerGuidance | None = None
    ntk: Ntk = None
    proportional: bool = False
    weights: Sequence[tuple[float, float, float]] = ()
    coarse: Coarse | None = None
    negative: str = ""
    options: Options | None = None
    image: npt.NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    mask: npt.NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    strength: float | None = None
    noise: FloatArray | None = field(default=None, compare=False, repr=False)
    tile: int | None = None
    embeds: Sequence[Features] | None = field(default=None, compare=False, repr=False)
    negative_embeds: Features | None = field(default=None, compare=False, repr=False)

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
        skip_layer_guidance: SkipLayerGuidance | None = None,
        ntk: Ntk = None,
        proportional: bool = False,
        negative: str = "",
        options: Options | None = None,
        given: Given | None = None,
    ) -> Request:
        """A request that is sampled as `how` says, which came of `options` (resolve.py). given: what it begins with."""
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
            skip_layer_guidance=skip_layer_guidance,
            ntk=ntk,
            proportional=proportional,
            weights=how.weights,
            coarse=how.coarse,
            negative=negative,
            options=options,
            **({} if given is None else given.parts()),
        )

    @property
    def branches(self) -> int:
        """Guidance branches, without one that skips layers: at a guidance of 1 the unconditional one has no part."""
        return 1 if self.guidance == 1 else 2


def drawn_seed() -> int:
    """A seed from the system's randomness, below 2^32: short enough to be typed again."""
    return secrets.randbelow(2**32)


def check_size(size: Any) -> None:
    """Raise RequestError unless it is a width and a height; what they may be is the model's to say."""
    try:
        _, _ = map(index, size)
    except (TypeError, ValueError):
        raise RequestError(f"size is {size!r}; allowed are a width and a height, for instance (64, 64)") from None


def checked_seeds(seeds: Any) -> list[int]:
    """As a list. Raises RequestError for one number."""
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise RequestError(f"seeds is {seeds!r}; allowed is a list, a seed for each prompt; a first one is seed=")
    return list(seeds)


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
