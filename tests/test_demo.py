"""The demo bundle: trained weights, so these tests are about pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from noise import noise_of
from reference import sample

from flagdit.cpp_ext import has_amx
from flagdit.engine import DENSE, Pipeline, RasConfig
from flagdit.engine.bundle.reader import DEMO
from flagdit.engine.cpu import Precision, here
from flagdit.export import load_checkpoint

tiles = pytest.mark.skipif(not has_amx(), reason="this CPU has no tiles of int8 and bf16")
fast_int8 = pytest.mark.skipif(not here().int8, reason="this CPU has no int8 dot products")

COLOURS = {
    "white": (250, 250, 250),
    "black": (24, 24, 28),
    "red": (214, 46, 50),
    "orange": (246, 140, 38),
    "yellow": (252, 214, 62),
    "green": (62, 168, 84),
    "blue": (52, 112, 220),
    "purple": (134, 76, 190),
    "pink": (248, 150, 190),
}
PAINTED = {
    "a red apple on a blue background": ("red", "blue"),
    "a red heart on a white background": ("red", "white"),
    "a blue heart on an orange background": ("blue", "orange"),
    "a lemon on a purple background": ("yellow", "purple"),
    "a christmas tree on a white background": ("green", "white"),
    "a strawberry on a black background": ("red", "black"),
}


@pytest.fixture(scope="module")
def demo() -> Pipeline:
    return Pipeline.load("demo")


def nearest(pixels: np.ndarray) -> str:
    """The colour word nearest to the median of pixels (n, 3)."""
    median = np.median(pixels, axis=0)
    return min(COLOURS, key=lambda name: float(np.square(median - COLOURS[name]).sum()))


def colours(image: np.ndarray) -> tuple[str, str]:
    """Colour words of the object and of the background of a picture (H, W, 3): the border is background."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    far = np.square(image.astype(float) - np.median(border, axis=0)).sum(-1) > 80**2
    return nearest(image[far]), nearest(border)


@pytest.mark.slow
@pytest.mark.parametrize("ras", [DENSE, RasConfig(ratio=0.25)], ids=["dense", "RAS"])
def test_paints_the_colours_it_is_asked_for(demo: Pipeline, ras: RasConfig) -> None:
    result = demo(prompts=list(PAINTED), seeds=[0] * len(PAINTED), ras=ras)
    painted = {prompt: colours(np.asarray(image)) for prompt, image in zip(PAINTED, result.images, strict=True)}
    assert painted == PAINTED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "least"),
    [("float32", 90.0), pytest.param("int8", 35.0, marks=fast_int8), pytest.param("int8-bf16", 35.0, marks=tiles)],
)
def test_dense_run_is_torchs(demo: Pipeline, precision: Precision, least: float) -> None:
    """30 steps with guidance, from the stored weights, against the independent implementation: PSNR in dB."""
    model = load_checkpoint(DEMO)
    prompt = "a red apple on a blue background"
    even = {"steps": 30, "shift": 1.0, "solver": "euler", "ras": DENSE}
    result = demo.at(precision)(prompt, seed=3, size=(32, 32), guidance=4.0, **even)  # type: ignore[arg-type]
    noise = torch.from_numpy(noise_of(3, (1, 3, 32, 32)))
    text, mask = (torch.from_numpy(x) for x in demo.stages.text.encode([prompt, ""]))
    with torch.no_grad():
        expected = sample(model.state_dict(), noise, text, mask, 4, np.linspace(0, 1, 31).tolist(), 4.0)
    error = np.square(result.latents - expected.numpy(), dtype=np.float64).mean()
    assert 10 * np.log10(4 / error) > least


@pytest.mark.slow
def test_ras_keeps_the_picture_better_than_fewer_steps(demo: Pipeline) -> None:
    """Closer to the converged picture than dense steps of the same solver on the same grid, for no less work."""
    prompts, seeds = list(PAINTED), list(range(len(PAINTED)))
    how = demo.presets()["quality"]
    ras = demo(prompts=prompts, seeds=seeds, preset="quality")
    fewer = math.ceil(ras.report.flop_ratio * how.count)
    assert fewer < how.count
    dense = demo(prompts=prompts, seeds=seeds, steps=fewer, solver=how.solver, shift=how.shift, ras=DENSE)
    exact = demo(prompts=prompts, seeds=seeds, steps=60, shift=3.0, ras=DENSE)
    target = np.clip(exact.latents, -1, 1)
    errors = [float(np.square(np.clip(x.latents, -1, 1) - target).mean()) for x in (ras, dense)]
    assert errors[0] < errors[1]


def test_the_bundle_is_small_and_says_its_licences(demo: Pipeline) -> None:
    manifest = demo.bundle.manifest
    assert sum(file.bytes for file in manifest.files.values()) < 48 * 2**20
    assert manifest.model.licences == {"weights": "MIT", "text_encoder": "Apache-2.0"}
