"""Features that are given, in place of what text encoders make."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flagdit.engine import BackendError, Pipeline, RequestError
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.commands.again import command
from flagdit.engine.commands.inspect import _facts
from flagdit.engine.media import metadata

PROMPTS, OPTIONS = ["a red apple on the left", "a star"], {"steps": 4, "size": (32, 32), "guidance": 2.5}


@pytest.fixture(scope="module")
def pipeline(bundle_dir: Path) -> Pipeline:
    return Pipeline.load(bundle_dir, threads=1)


def of(pipeline: Pipeline, prompt: str) -> dict[str, Any]:
    return dict(pipeline.stages.text.all_features(prompt))


def test_features_of_the_encoder_make_the_same(pipeline: Pipeline) -> None:
    """By name or, as there is one, without; with the row's axis or without."""
    wanted = pipeline(prompts=PROMPTS, **OPTIONS)
    embeds, nothing = [of(pipeline, prompt) for prompt in PROMPTS], of(pipeline, "")
    found = pipeline(embeds=embeds, negative_embeds=nothing, **OPTIONS)
    np.testing.assert_array_equal(found.latents, wanted.latents)
    bare = [each["text"][None].tolist() for each in embeds]
    named = pipeline(prompts=PROMPTS, embeds=bare, negative_embeds=nothing["text"], **OPTIONS)
    np.testing.assert_array_equal(named.latents, wanted.latents)
    assert found.report.prompt == ["", ""] and named.report.prompt == PROMPTS
    single = pipeline(embeds=embeds[0], **{**OPTIONS, "guidance": 1.0})
    np.testing.assert_array_equal(single.latents, pipeline(PROMPTS[0], **{**OPTIONS, "guidance": 1.0}).latents)


def test_another_text_leads_elsewhere(pipeline: Pipeline) -> None:
    one, other = of(pipeline, PROMPTS[0]), of(pipeline, PROMPTS[1])
    away, nothing = (pipeline(embeds=one, negative_embeds=each, **OPTIONS) for each in (other, of(pipeline, "")))
    wanted = pipeline(PROMPTS[0], negative=PROMPTS[1], **OPTIONS)
    np.testing.assert_array_equal(away.latents, wanted.latents)
    assert np.abs(away.latents - nothing.latents).max() > 1e-4


def test_a_bundle_without_text_encoder(model_dir: Path, tmp_path: Path, pipeline: Pipeline) -> None:
    """It loads, paints from features, and says what is missing for prompts."""
    shutil.copytree(model_dir, tmp_path / "model")
    spec = json.loads((tmp_path / "model" / "model.json").read_text())
    spec["texts"] = []
    (tmp_path / "model" / "model.json").write_text(json.dumps(spec))
    build_bundle(tmp_path / "model", tmp_path / "bundle")
    bare = Pipeline.load(tmp_path / "bundle", threads=1)
    made = bare(embeds=of(pipeline, PROMPTS[0]), negative_embeds=of(pipeline, ""), **OPTIONS)
    np.testing.assert_array_equal(made.latents, pipeline(PROMPTS[0], **OPTIONS).latents)
    with pytest.raises(BackendError, match="the bundle has no text encoder; export the model with --text-encoder, or"):
        bare(PROMPTS[0], **OPTIONS)


def test_features_that_are_not_the_models_are_refused(pipeline: Pipeline) -> None:
    good = of(pipeline, PROMPTS[0])["text"]
    tokens, width = good.shape

    def refused(message: str, **options: Any) -> None:
        with pytest.raises(RequestError, match=re.escape(message)):
            pipeline(**{"negative_embeds": good, **OPTIONS, **options})

    refused(f"embeds: text is ({tokens}, {width - 1}); allowed is (T, {width})", embeds=good[:, :-1])
    refused(f"embeds of picture 2: text is ({width},); allowed is", embeds=[good, good[0]])
    refused(f"negative_embeds: text is (0, {width}); allowed is", embeds=good, negative_embeds=good[:0])
    refused("embeds are other; this model takes text", embeds={"other": good})
    refused("embeds: text are no numbers", embeds={"text": "red"})
    refused("there are embeds of 1 pictures and 2 prompts; give embeds of each", prompts=PROMPTS, embeds=good)
    refused("there are embeds, and guidance is 2.5, which leads away from something", embeds=good, negative_embeds=None)
    refused("there are embeds and a negative prompt; give negative_embeds", embeds=good, negative="a book")
    refused("there are negative_embeds and no embeds", prompt=PROMPTS[0])
    bad = "text has values that are no numbers in float32"
    refused(f"embeds of picture 1: {bad}", embeds=[good * np.float32(np.nan)])
    refused(f"negative_embeds: {bad}", embeds=good, negative_embeds=good.astype(np.float64) * 1e300)
    refused("embeds: text are no numbers", embeds=good + 1j)
    refused("embeds: text are no numbers", embeds=torch.from_numpy(good).requires_grad_())
    refused("embeds are 1; this model takes text", embeds={1: good})
    refused("negative_embeds are those of 2 texts; allowed is one", embeds=good, negative_embeds=[good, good])
    refused("negative_embeds are those of 0 texts; allowed is one", embeds=good, negative_embeds=[])
    most = pipeline.spec.text_tokens
    long = np.resize(good, (most + 1, width))
    refused(f"embeds: text has {most + 1} tokens; allowed are {most}", embeds=long)
    refused("is no Unicode text", prompt="a \ud800", embeds=good)


def test_a_picture_says_that_features_were_given(pipeline: Pipeline, tmp_path: Path) -> None:
    """So that it has no command which would paint another one."""
    one = of(pipeline, PROMPTS[0])
    made = pipeline("a name", embeds=one, negative_embeds=of(pipeline, ""), **OPTIONS)
    made.save(tmp_path / "made.png")
    about = metadata.read(tmp_path / "made.png")
    assert about.embeds and _facts(about)["given"] == "features" and not pipeline(PROMPTS[0], **OPTIONS).report.embeds
    with pytest.raises(RequestError, match="given noise or features, which it does not hold"):
        command(about, "again.png")
