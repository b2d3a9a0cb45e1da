"""A loaded bundle that turns prompts into pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy.typing as npt

from flagdit.cpp_ext import Session, Weights
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.coarse import Coarse
from flagdit.engine.cpu import Precision, available
from flagdit.engine.device import choose
from flagdit.engine.embeds import Embeds, checked_embeds, checked_negative
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import Ntk, model_shift
from flagdit.engine.loading import load_denoise, load_stages
from flagdit.engine.media.canvas import Picture
from flagdit.engine.preflight import Preflight
from flagdit.engine.presets import Preset, presets_of
from flagdit.engine.ras import RasConfig, Solver
from flagdit.engine.request import Given, Request, checked_prompts, checked_seed, checked_seeds, drawn_seed
from flagdit.engine.resolve import Options, resolve
from flagdit.engine.result import Preview, Result
from flagdit.engine.run import Run
from flagdit.engine.skip_layers import SkipLayerGuidance, skip_layer_guidance_of


class Pipeline:
    """A loaded bundle. It holds no state of a run: share it between threads as you like."""

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        precision: Precision | None = None,
        *,
        device: str = "auto",
        backend: str = "onnxruntime",
    ) -> None:
        """See `load`, which takes the path of a bundle."""
        self._load(Preflight(bundle, threads, precision, device=device, backend=backend))

    @classmethod
    def of(cls, ready: Preflight) -> Pipeline:
        """Load a bundle of which the manifest and the tokenizer are read. Raises BundleError."""
        pipeline = cls.__new__(cls)
        pipeline._load(ready)
        return pipeline

    def _load(self, ready: Preflight) -> None:
        self.bundle, self.spec, self._threads, self.chosen = ready.bundle, ready.spec, ready.threads, ready.chosen
        self.stages = load_stages(ready)

    @classmethod
    def load(
        cls,
        bundle: Path | str = "demo",
        *,
        threads: int | None = None,
        precision: Precision | None = None,
        device: str = "auto",
        backend: str = "onnxruntime",
    ) -> Pipeline:
        """Load a bundle directory, or the "demo".

        precision: "float32", or "int8" or "int8-bf16" if the bundle has such an engine; by default the fastest that is
        there and that the CPU is made for (docs/cpu.md). On a GPU "float16", "bfloat16" or "float32" (docs/gpu.md).
        device: "cpu", "cuda", or "auto": a GPU if one can be used. backend: "onnxruntime", or "tensorrt" or
        "tensorrt-rtx" for engines that were built for this GPU (docs/tensorrt.md). Every byte that is used is checked,
        and then held in memory: what becomes of the files later changes nothing. Large text encoders are read, and
        checked, by every run.
        Raises BundleError if the bundle is missing or damaged, BackendError if the precision is not to be had.
        """
        return cls(Bundle.open(bundle), threads, precision, device=device, backend=backend)

    def __call__(
        self,
        prompt: str | None = None,
        *,
        prompts: Sequence[str] | None = None,
        negative: str = "",
        seed: int | Literal["random"] = 0,
        seeds: Sequence[int] | None = None,
        steps: int | Sequence[float] | None = None,
        size: tuple[int, int] | None = None,
        guidance: float | None = None,
        skip_layer_guidance: SkipLayerGuidance | float | None = None,
        shift: float | None = None,
        solver: Solver | None = None,
        ntk: Ntk = None,
        proportional: bool = False,
        ras: RasConfig | None = None,
        preset: str | None = None,
        coarse: Coarse | None = None,
        image: Picture | None = None,
        strength: float | None = None,
        mask: Picture | None = None,
        latents: npt.ArrayLike | None = None,
        embeds: Embeds | Sequence[Embeds] | None = None,
        negative_embeds: Embeds | None = None,
        tile: int | None = None,
        on_step: Callable[[Preview], None] | None = None,
    ) -> Result:
        """Generate a picture of `prompt`, or one of each of `prompts`.

        guidance: the scale of classifier-free guidance, by default the model's own; 1 is none. negative: the prompt of
        the unconditional branch, what guidance leads away from; "" is what models are trained with.
        skip_layer_guidance: leads away from the model without some of its layers, too, in early steps (see
        SkipLayerGuidance), if it knows that; a number is the scale, such as 2.8.
        seeds: one per prompt, 0 to 2^64 - 1, by default seed, seed + 1, ...; a "random" seed is drawn anew, and the
        report says it. size: (width, height), by default the model's own.
        preset: "quality", "balanced" (the default), "fast", or another that the bundle was calibrated for
        (`presets`): what the next four are where they are not given.
        steps: how many, or the times they lie between, from 0 (noise) to 1 (data). shift: time shift of a number of
        steps. solver: how a step is made, "ab2", or "euler" as in paper mode; "midpoint" and "heun" call `denoise`
        twice. ras: see RasConfig; `DENSE` recomputes everything. A calibrated preset's weights of steps hold for all
        of it only: giving any of the four leaves them out.
        ntk, proportional: for sizes the model was not trained at, as Lumina-T2X does: a factor on RoPE's theta ("auto"
        is the area over the training area, at least 1), and a softmax that sharpens with the number of tokens.
        coarse: begin with a smaller picture, see Coarse (docs/coarse.md); steps are then those at the full size.
        image: a picture to begin with: of Pillow, bytes (Y, X, 3), or a path; the size is its own. strength: how much
        of the way from noise is gone, and so what share of the steps; .6, with a mask 1. mask: a picture of the same
        size, white where it is painted anew; the rest stays as it is, to the bit.
        latents: noise (B, C, H, W) to begin with in place of the seeds'. embeds, negative_embeds: features of the
        prompts, and of what guidance leads away from, in place of what text encoders make (see Embeds); prompts are
        then names.
        tile: pixels of the side of tiles that an autoencoder decodes one by one, 0 for the whole at once; by default as
        memory allows.
        on_step: called after every step. Raises RequestError if something asked for is out of bounds.
        """
        features = None if embeds is None else checked_embeds(self.spec, embeds, "embeds")
        if (prompt is None) == (prompts is None) and (prompt is not None or features is None):
            raise RequestError("give either one prompt or a list of prompts")
        labels = [""] * len(features or ())
        texts = checked_prompts(labels if prompts is None else prompts) if prompt is None else [prompt]
        first = drawn_seed() if isinstance(seed, str) and seed == "random" else checked_seed(seed)
        numbers = checked_seeds(seeds) if seeds is not None else [first + i for i in range(len(texts))]
        said = Options(preset=preset, steps=steps, shift=shift, solver=solver, ras=ras, coarse=coarse)
        given = Given.of(image, mask, strength, noise=latents, tile=tile)
        if features is not None:
            given = replace(given, embeds=features)
        if negative_embeds is not None:
            given = replace(given, negative_embeds=checked_negative(self.spec, negative_embeds))
        how, scale = self.resolve(said, given.sized(size)), self.spec.guidance.chosen(guidance)
        run = self.start(
            Request.of(
                how,
                texts,
                numbers,
                size=size,
                guidance=scale,
                skip_layer_guidance=skip_layer_guidance_of(skip_layer_guidance),
                ntk=ntk,
                proportional=proportional,
                negative=negative,
                options=said,
                given=given,
            )
        )
        if on_step is None:
            return run.finish()
        for preview in run:
            on_step(preview)
        return run.result()

    def presets(self, size: tuple[int, int] | None = None) -> dict[str, Preset]:
        """Those that the bundle was calibrated for, at the size (width, height) nearest to this, and flagdit's."""
        return presets_of(self.spec, size)

    def resolve(self, options: Options, size: tuple[int, int] | None = None) -> Preset:
        """How a run of that size with these options is sampled. Raises RequestError if they contradict each other."""
        return resolve(options, self.presets(size), model_shift(self.spec, size))

    @property
    def precision(self) -> Precision:
        """What `denoise` computes in."""
        return cast(Precision, self.stages.denoise.precision)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What there are engines for that this CPU is made for, fastest first; on a GPU what it was loaded with."""
        return available(self.bundle.manifest) if self.chosen.device == "cpu" else (self.precision,)

    def at(self, precision: Precision) -> Pipeline:
        """The same bundle with another engine; all else is shared with this one.

        Raises BackendError if that is not to be had, BundleError if its files are not those of the bundle any more.
        """
        if precision == self.precision:
            return self
        other, own = copy(self), self.chosen
        other.chosen = choose(self.bundle.manifest, device=own.device, backend=own.backend, precision=precision)
        other.stages = replace(
            self.stages, denoise=load_denoise(self.bundle, other.chosen, Weights(), threads=self._threads)
        )
        return other

    def with_denoise(self, session: Session) -> Pipeline:
        """The same bundle with another session of `denoise`, which has the contract's ports; all else is shared."""
        other = copy(self)
        other.stages = replace(self.stages, denoise=session)
        return other

    def check(self, request: Request) -> None:
        """Raise RequestError for what `start` would refuse."""
        self.start(request)

    def start(self, request: Request) -> Run:
        """A run to iterate over, one Preview a step."""
        return Run(self.stages, request)
