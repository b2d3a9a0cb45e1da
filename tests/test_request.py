"""What is asked for besides a prompt: a negative one, several, a seed that nobody chose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from noise import noise_of
from reference import sample
from test_pipeline import PROMPT, difference, features
from tiny import assert_refused

from flagdit.engine import DENSE, Pipeline, RasConfig, RequestError
from flagdit.engine.request import Request
from flagdit.export import FlagDiT

NEGATIVE = "green star"


def test_a_negative_prompt_is_torchs_unconditional_branch(pipeline: Pipeline, flag_dit: FlagDiT) -> None:
    """In a batch, too: every picture is guided away from the same text."""
    prompts = [PROMPT, "a book"]
    noise = torch.from_numpy(np.concatenate([noise_of(seed, (1, 3, 32, 32)) for seed in (7, 8)]))
    text, mask = features(pipeline, [*prompts, NEGATIVE, NEGATIVE])
    times = np.linspace(0, 1, 7).tolist()
    with torch.no_grad():
        expected = sample(flag_dit.state_dict(), noise, text, mask, 4, times, guidance=4.0).numpy()
    how: dict[str, Any] = {"seed": 7, "steps": 6, "solver": "euler", "ras": DENSE}
    result = pipeline(prompts=prompts, negative=NEGATIVE, **how)
    assert difference(result.latents, expected) < 1e-4
    assert difference(result.latents, pipeline(prompts=prompts, **how).latents) > 1e-2
    assert result.report.negative == NEGATIVE


@pytest.mark.parametrize("ras", [RasConfig(), RasConfig(guidance_every=2)])
def test_no_negative_prompt_is_the_empty_one(pipeline: Pipeline, ras: RasConfig) -> None:
    plain = pipeline(PROMPT, ras=ras)
    np.testing.assert_array_equal(pipeline(PROMPT, negative="", ras=ras).latents, plain.latents)
    assert plain.report.negative == ""
    assert difference(pipeline(PROMPT, negative=NEGATIVE, ras=ras).latents, plain.latents) > 1e-2


def test_a_negative_prompt_that_is_the_prompt_leaves_nothing_to_guide(pipeline: Pipeline) -> None:
    """v + (g - 1) (v - v): the picture of a guidance of 1."""
    same, unguided = pipeline(PROMPT, negative=PROMPT, ras=DENSE), pipeline(PROMPT, guidance=1.0, ras=DENSE)
    assert difference(same.latents, unguided.latents) < 1e-4


def test_a_random_seed_is_said_and_can_be_had_again(pipeline: Pipeline) -> None:
    first, other = (pipeline(PROMPT, seed="random", steps=2) for _ in range(2))
    assert first.report.seed != other.report.seed
    assert isinstance(first.report.seed, int) and 0 <= first.report.seed < 2**32
    np.testing.assert_array_equal(pipeline(PROMPT, seed=first.report.seed, steps=2).latents, first.latents)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "letters": (
        {"prompts": "apple"},
        'prompts is one text, and each of its letters would be a prompt; give a list: ["apple"',
    ),
    "no letters": ({"prompts": ""}, "prompts is one text"),
    "bytes": ({"prompts": b"apple"}, "prompts is one text"),
    "a list as prompt": ({"prompt": ["apple"]}, "a prompt is of type list; allowed is text"),
    "no text": ({"prompts": ["a", 3]}, "a prompt is of type int; allowed is text"),
    "no list": ({"prompts": 3}, "prompts is of type int; allowed is a list of texts"),
    "seed": ({"prompt": "a", "seed": "ramdom"}, "seed 'ramdom' is no integer"),
    "negative list": ({"prompt": "a", "negative": ["b"]}, "negative is of type list; allowed is one text"),
    "blank negative": ({"prompt": "a", "negative": " "}, "the negative prompt is blank; leave it out"),
    "long negative": ({"prompt": "a", "negative": "a " * 12}, "the negative prompt has 14 tokens; allowed are 12"),
    "negative bytes": ({"prompt": "a", "negative": "a \udcff"}, "the negative prompt 'a \\udcff' is no Unicode text"),
    "unguided": ({"prompt": "a", "negative": "b", "guidance": 1.0}, "there is a negative prompt and guidance is 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_is_refused(pipeline: Pipeline, case: str) -> None:
    assert_refused(pipeline, *BAD[case])


def test_a_request_knows_its_letters_too() -> None:
    """Whoever makes one without the pipeline."""
    with pytest.raises(RequestError, match="each of its letters would be a prompt"):
        Request("apple", [0] * 5, 4, None, 4.0, 1.0, DENSE)  # type: ignore[arg-type]
