"""Sizes the model was not trained at: NTK scaling and proportional attention, against torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from noise import noise_of
from tiny import TINY

from flagdit.engine import DENSE, Pipeline, RasConfig
from flagdit.engine.layout import Ntk
from flagdit.engine.model import model_of
from flagdit.export import FlagDiT
from flagdit.export.families.flag_dit.graphs import Place

PROMPT = "a red apple on a blue background"
SIZE = (64, 48)  # three times the area of training
TRAINED = 8 * 9  # tokens at 32x32 in patches of 4


def torchs(
    model: FlagDiT, pipeline: Pipeline, steps: int, guidance: float, ntk: float, base: int | None
) -> torch.Tensor:
    """Euler steps over the exporter's model, whose options are its own; three channels, so all are guided."""
    text, mask = (torch.from_numpy(x) for x in pipeline.stages.text.encode([PROMPT, ""]))
    x = torch.from_numpy(noise_of(0, (1, 3, SIZE[1], SIZE[0])))
    for i in range(steps):
        t = torch.full((2,), i / steps)
        both = model(torch.cat([x, x]), t, text, mask, ntk_factor=ntk, base_tokens=base)
        conditional, unconditional = both.chunk(2)
        x = x + (unconditional + guidance * (conditional - unconditional)) / steps
    return x


@pytest.mark.parametrize(
    ("ntk", "factor", "proportional"),
    [(None, 1.0, False), ("auto", 3.0, False), (None, 1.0, True), ("auto", 3.0, True), (7.5, 7.5, True)],
)
def test_runs_are_torchs(pipeline: Pipeline, flag_dit: FlagDiT, ntk: Ntk, factor: float, proportional: bool) -> None:
    result = pipeline(PROMPT, steps=8, size=SIZE, ntk=ntk, proportional=proportional, solver="euler", ras=DENSE)
    with torch.no_grad():
        expected = torchs(flag_dit, pipeline, 8, 4.0, factor, TRAINED if proportional else None)
        plain = torchs(flag_dit, pipeline, 8, 4.0, 1.0, None)
    np.testing.assert_allclose(result.latents, expected.numpy(), atol=1e-4, rtol=0)
    assert ((expected - plain).abs().max() > 1e-3) == (factor != 1 or proportional)
    assert (result.report.ntk, result.report.proportional) == (factor, proportional)


@pytest.mark.parametrize("size", [None, (32, 16)])
def test_auto_changes_nothing_up_to_the_training_size(pipeline: Pipeline, size: tuple[int, int] | None) -> None:
    plain, auto = (pipeline(PROMPT, steps=6, size=size, ntk=ntk) for ntk in (None, "auto"))
    np.testing.assert_array_equal(plain.latents, auto.latents)
    assert auto.report.ntk == 1


def test_proportional_attention_changes_nothing_at_the_training_size(pipeline: Pipeline) -> None:
    plain, proportional = (pipeline(PROMPT, steps=6, proportional=p) for p in (False, True))
    np.testing.assert_array_equal(plain.latents, proportional.latents)


def test_region_adaptive_runs_know_them_too(pipeline: Pipeline) -> None:
    """Rows of RoPE move with their tokens, so a run that caches almost nothing stays close to dense."""
    options = {"size": SIZE, "ntk": "auto", "proportional": True}
    dense, little, much, other = (
        pipeline(PROMPT, **arguments).latents
        for arguments in (
            {**options, "ras": DENSE},
            {**options, "ras": RasConfig(ratio=0.97)},
            {**options, "ras": RasConfig(ratio=0.25)},
            {"size": SIZE, "ras": DENSE},
        )
    )
    near, far, apart = (float(np.abs(x - dense).max()) for x in (little, much, other))
    assert 0 < near < min(far, apart)


def test_the_official_figures(pipeline: Pipeline) -> None:
    """Lumina-T2X at 1024 pixels, painting 2048: four times the theta, and the sequence of training as the base."""
    spec = pipeline.spec.model_copy(deep=True)
    spec = spec.model_copy(
        update={
            "latent": spec.latent.model_copy(update={"size": (128, 128)}),
            "tokens": spec.tokens.model_copy(update={"patch": (1, 2, 2)}),
        }
    )
    assert model_of(spec).ntk("auto", (256, 256)) == 4
    assert model_of(spec).ntk("auto", (256, 64)) == 1
    official = np.log(4160) / np.log((1024 // 16) ** 2 + 2 * (1024 // 16))  # at 1024 pixels; ours is 1 there
    assert official == pytest.approx(0.9982, abs=1e-4)
    config = replace(TINY, patch_size=2)
    assert config.tokens((128, 128)) == 4160
    place = Place(config, 4160)
    at_training = place(torch.zeros(4160, 4, dtype=torch.int64), torch.ones(1), torch.ones(1, dtype=torch.bool))[3]
    assert at_training.item() == np.float32(TINY.head_dim**-0.5)
