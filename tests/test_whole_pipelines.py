"""Pipelines as diffusers saves them, through the command line: sentence to pixels, against diffusers' own pipelines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffused import random_model
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Lumina2Pipeline,
    LuminaPipeline,
    StableDiffusion3Pipeline,
    ZImagePipeline,
)
from encoders import random_encoder, write_tokenizer
from noise import noise_of
from pictures import psnr
from test_encoders import random_vae

from flagdit.engine import DENSE, Pipeline, RequestError

TIMES = [0.0, 0.15, 0.4, 0.7, 1.0]
PROMPTS = ["a red apple on the left", "a star"]
SETTINGS = [
    (16, 16, PROMPTS[:1], 2.5, ""),
    (16, 16, PROMPTS[:1], 2.5, "a book"),
    (16, 16, PROMPTS[:1], 1.0, ""),
    (32, 8, PROMPTS, 2.5, ""),
]
"""Width and height of the latents, prompts, guidance, negative prompt."""


@dataclass(frozen=True)
class Case:
    """How diffusers assembles a family's pipeline, and what its call is told besides."""

    pipeline: Any
    transformer: str
    encoders: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    export: tuple[str, ...] = ()
    shift_factor: float | None = 0.1159
    less: float = 0.0  # what diffusers' scale of guidance is less than ours
    downscale: int = 4

    def parts(self, folder: Path) -> dict[str, Any]:
        """Everything that the pipeline is made of, tiny and random."""
        made: dict[str, Any] = {
            "transformer": random_model(self.transformer),
            "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.0),
            "vae": random_vae(4, folder / "vae", downscale=self.downscale, shift_factor=self.shift_factor),
        }
        for suffix, kind in zip(("", "_2", "_3"), self.encoders, strict=False):
            made[f"text_encoder{suffix}"] = random_encoder(kind) if kind else None
            made[f"tokenizer{suffix}"] = self.tokenizer(kind, folder / f"tokenizer{suffix}") if kind else None
        return made

    def tokenizer(self, kind: str, folder: Path) -> Any:
        made = write_tokenizer(folder, end=kind.startswith(("clip", "t5")))
        if kind.startswith("clip"):
            made.model_max_length = 77
        if kind == "qwen3":
            made.chat_template = CHAT
        return made


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LINE = ("--renormalise", "line")  # what diffusers does; the official code's is compared in test_family_runs.py
CASES = {
    # Its pipeline takes it that latents are of 8 pixels.
    "next-dit": Case(LuminaPipeline, "next-dit", ("gemma",), {"clean_caption": False}, shift_factor=None, downscale=8),
    "lumina2": Case(Lumina2Pipeline, "lumina2", ("gemma2",), export=LINE),
    "z-image": Case(ZImagePipeline, "z-image", ("qwen3",), less=1.0),
    "sd3": Case(StableDiffusion3Pipeline, "sd3", ("clip", "clip 20", "t5")),
    "sd3 without T5": Case(StableDiffusion3Pipeline, "sd3", ("clip", "clip 20", "")),
    "sd3.5": Case(StableDiffusion3Pipeline, "sd3.5", ("clip", "clip 20", "t5")),
}


def expected(case: Case, theirs: Any, prompts: list[str], noise: Any, guidance: float, negative: str = "") -> Any:
    """Latents (B, C, H, W) and pictures (B, 3, Y, X) in [0, 1] by diffusers' pipeline."""
    seen = []

    def keep(_pipeline: Any, _step: int, _time: Any, now: dict[str, Any]) -> dict[str, Any]:
        seen.append(now["latents"].numpy().copy())
        return {}

    (made,) = theirs(
        list(prompts),
        width=noise.shape[3] * case.downscale,
        height=noise.shape[2] * case.downscale,
        num_inference_steps=len(TIMES) - 1,
        sigmas=[1 - t for t in TIMES[:-1]],
        guidance_scale=guidance - case.less,
        negative_prompt=[negative] * len(prompts),
        latents=torch.from_numpy(noise.copy()),
        callback_on_step_end=keep,
        output_type="pt",
        return_dict=False,
        **case.options,
    )
    return seen[-1], made.numpy()


@pytest.mark.parametrize("name", CASES)
def test_a_sentence_becomes_diffusers_picture(name: str, flagdit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Tokens, features, guidance, steps and pixels: nothing of ours is in the other picture."""
    case = CASES[name]
    theirs = case.pipeline(**case.parts(tmp_path / "parts"))
    theirs.set_progress_bar_config(disable=True)
    theirs.save_pretrained(tmp_path / "saved")
    for command in (
        ("export", "saved", "-o", "model", "--size", "16x16", "--dtype", "float32", *case.export),
        ("build", "model", "-o", "bundle"),
    ):
        code, _, said = flagdit(*command)
        assert code == 0, said
    ours = Pipeline.load(tmp_path / "bundle", threads=1)
    made = []
    for width, height, prompts, guidance, negative in SETTINGS:
        noise = np.concatenate([noise_of(i, (1, 4, height, width)) for i in range(len(prompts))])
        latents, pictures = expected(case, theirs, prompts, noise, guidance, negative)
        size = (width * case.downscale, height * case.downscale)
        result = ours(
            prompts=prompts, negative=negative, size=size, steps=TIMES, solver="euler", guidance=guidance, ras=DENSE
        )
        np.testing.assert_allclose(result.latents, latents, atol=1e-5 * np.abs(latents).max(), rtol=0)
        for image, picture in zip(result.images, pictures, strict=True):
            assert image.size == size and psnr(image, picture * 2 - 1) > 60
        made.append(latents[0])
    differences = [np.abs(other - made[0]).max() for other in made[1:3]]
    assert min(differences) > 1e-3  # guidance, and what it leads away from, are seen
    side = 16 * case.downscale
    with pytest.raises(RequestError, match=f"size {side - 4}x{side} is not made of .*; the nearest is {side}x{side}"):
        ours(PROMPTS[0], size=(side - 4, side))
