"""Pipelines as diffusers saves them, through the command line: sentence to pixels, against diffusers' own pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noise import noise_of
from pictures import psnr
from pipelines import CASES, Case, write_bundle

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


def expected(
    case: Case, theirs: Any, prompts: list[str], noise: Any, guidance: float, negative: str = "", **options: Any
) -> Any:
    """Latents (B, C, H, W) and pictures (B, 3, Y, X) in [0, 1] by diffusers' pipeline. options: of its call."""
    times = options.pop("times", TIMES)
    seen = []

    def keep(_pipeline: Any, _step: int, _time: Any, now: dict[str, Any]) -> dict[str, Any]:
        seen.append(now["latents"].numpy().copy())
        return {}

    (made,) = theirs(
        list(prompts),
        width=noise.shape[3] * case.downscale,
        height=noise.shape[2] * case.downscale,
        num_inference_steps=len(times) - 1,
        sigmas=[1 - t for t in times[:-1]],
        guidance_scale=guidance - case.less,
        negative_prompt=[negative] * len(prompts),
        latents=torch.from_numpy(noise.copy()),
        callback_on_step_end=keep,
        output_type="pt",
        return_dict=False,
        **case.options,
        **options,
    )
    return seen[-1], made.numpy()


@pytest.mark.parametrize("name", [name for name in CASES if name != "sd3"])  # whose parts sd3.5 has
def test_a_sentence_becomes_diffusers_picture(name: str, tmp_path: Path) -> None:
    """Tokens, features, guidance, steps and pixels: nothing of ours is in the other picture."""
    case = CASES[name]
    theirs = write_bundle(case, tmp_path)
    ours = Pipeline.load(tmp_path / "bundle", threads=1)
    assert ours.spec.name == ours.spec.family  # where no other is said
    if name == "sd3.5":
        latent, texts = ours.spec.latent, ours.spec.texts
        assert (latent.downscale, latent.size, ours.spec.flow.shift, ours.spec.guidance.scale) == (
            4,
            (64, 64),
            3.0,
            7.0,
        )
        said = [(text.max_tokens, text.padding, text.truncate) for text in texts]
        assert said == [(77, 0, True), (77, 0, True), (256, 0, False)]
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
