"""Sentence to pixels through an autoencoder, against diffusers; tiles, previews, and pictures to begin with."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffused import FAMILIES
from noise import noise_of
from pictures import psnr
from test_encoders import random_vae
from test_family_runs import OneEncoder
from torch import Tensor

from flagdit import cpp_ext
from flagdit.cpp_ext import job_of, upsample
from flagdit.engine import DENSE, Coarse, Pipeline, RequestError
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.errors import BundleError
from flagdit.engine.media.picture import to_image
from flagdit.engine.model import model_of
from flagdit.export.parts.autoencoder import export_vae
from flagdit.export.parts.text.given import export_given

PROMPT, OTHER, GUIDANCE = "a red apple on the left", "a blue sky", 2.5


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> OneEncoder:
    return OneEncoder(tmp_path_factory.mktemp("text"))


def features(text: OneEncoder, prompt: str) -> Tensor:
    return text.features(prompt)["text"]


@pytest.fixture(scope="module")
def painter(of_family, tmp_path_factory: pytest.TempPathFactory, text: OneEncoder) -> tuple[Any, Any, Pipeline]:  # type: ignore[no-untyped-def]
    """A transformer and an autoencoder of diffusers, and the same as a bundle; latents of four pixels."""
    model, folder = of_family("next-dit")
    whole = tmp_path_factory.mktemp("painter")
    shutil.copytree(folder, whole / "model")
    options: dict[str, Any] = {"max_tokens": 16, "dtype": "float32", "progress": lambda _: None}
    texts = export_given(text.given, text.wanted, whole / "model", **options)
    vae = random_vae(4, whole / "vae")
    entries, downscale = export_vae(whole / "vae", whole / "model", 4, "float32")
    spec = json.loads((folder / "model.json").read_text())
    spec["texts"] = texts
    spec["graphs"] |= entries
    spec["latent"] |= {"downscale": downscale, "size": [side * downscale for side in spec["latent"]["size"]]}
    (whole / "model" / "model.json").write_text(json.dumps(spec))
    build_bundle(whole / "model", whole / "bundle")
    return model, vae, Pipeline.load(whole / "bundle", threads=1)


def euler(model: Any, x: Tensor, texts: list[Tensor], times: list[float]) -> Tensor:
    for t, after in pairwise(times):
        with torch.no_grad():
            cond, uncond = (FAMILIES["next-dit"].velocity(model, x, t, {"text": each}) for each in texts)
        cond[:, :3] = (uncond + GUIDANCE * (cond - uncond))[:, :3]
        x = x + (after - t) * cond
    return x


def decoded(vae: Any, latents: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = vae.decode(latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)).sample
    return out


@pytest.mark.parametrize(("size", "prompts"), [((64, 64), [PROMPT]), ((64, 48), [PROMPT, OTHER])], ids=str)
def test_a_sentence_becomes_diffusers_picture(
    painter: Any,
    text: OneEncoder,
    size: tuple[int, int],
    prompts: list[str],
) -> None:
    model, vae, pipeline = painter
    result = pipeline(prompts=prompts, size=size, steps=4, solver="euler", guidance=GUIDANCE, ras=DENSE)
    assert result.report.size == size and result.latents.shape[2:] == (size[1] // 4, size[0] // 4)
    for index, prompt in enumerate(prompts):
        x = torch.from_numpy(noise_of(index, (1, 4, size[1] // 4, size[0] // 4)))
        latents = euler(model, x, [features(text, prompt), features(text, "")], result.report.times)
        assert result.images[index].size == size
        assert psnr(result.images[index], decoded(vae, latents)[0]) > 60


def test_sizes_are_pixels(painter: Any) -> None:
    pipeline = painter[2]
    with pytest.raises(RequestError, match="size 60x64 is not made of 8x8 patches; the nearest is 64x64"):
        pipeline(PROMPT, size=(60, 64))


@pytest.mark.parametrize(("height", "width"), [(16, 24), (20, 9)])
def test_tiles_are_diffusers(painter: Any, height: int, width: int) -> None:
    """The same squares, a quarter over each other, the same lines between them."""
    _, vae, pipeline = painter
    latents = torch.from_numpy(noise_of(3, (2, 4, height, width)))
    vae.tile_latent_min_size, vae.tile_sample_min_size, vae.use_tiling = 8, 32, True
    try:
        wanted = decoded(vae, latents).numpy()
    finally:
        vae.use_tiling = False
    found = cpp_ext.decode(pipeline.stages.decode, latents.numpy(), 4, 32)
    whole = cpp_ext.decode(pipeline.stages.decode, latents.numpy(), 4)
    limit = 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, atol=limit, rtol=0)
    assert np.abs(whole - wanted).max() > 10 * limit


def test_tiles_may_be_asked_for(painter: Any) -> None:
    pipeline = painter[2]
    options: dict[str, Any] = {"size": (64, 48), "steps": 2, "ras": DENSE}
    whole, tiled = (pipeline(PROMPT, tile=tile, **options) for tile in (None, 32))
    assert (whole.report.tile, tiled.report.tile) == (0, 32)
    np.testing.assert_array_equal(whole.latents, tiled.latents)
    by_hand = cpp_ext.decode(pipeline.stages.decode, whole.latents, 4, 32)
    assert to_image(by_hand[0]) == tiled.image != whole.image
    for tile, allowed in ((20, "multiples of 16 pixels"), (-16, "whole numbers of pixels")):
        with pytest.raises(RequestError, match=f"tile is {tile}; allowed are {allowed}, and 0 for"):
            pipeline(PROMPT, tile=tile)


def test_tiles_are_taken_where_the_whole_does_not_fit(painter: Any) -> None:
    pipeline = painter[2]
    run, model = pipeline.start(request(pipeline, (1024, 1024))), model_of(pipeline.spec)
    job = job_of(run.request, model)
    job.admit(model, "float32", None)
    assert job.tile == 0
    room = 3 * 10**9
    job.admit(model, "float32", room)
    assert job.tile == 512
    with pytest.raises(RequestError, match=r"about .* GB of memory are needed"):
        job_of(request(pipeline, (1024, 1024), tile=0), model).admit(model, "float32", room)
    large = job_of(request(pipeline, (2048, 1024)), model)
    assert large.tile == 512  # takes more than 8 GiB


def request(pipeline: Pipeline, size: tuple[int, int], tile: int | None = None) -> Any:
    from flagdit.engine.request import Given, Request
    from flagdit.engine.resolve import Options

    how = pipeline.resolve(Options(steps=2), size)
    return Request.of(how, [PROMPT], [0], size=size, given=Given(tile=tile))


def test_previews_are_pictures_of_what_is_there(painter: Any) -> None:
    """Of the end that is in sight: without a graph for previews, by that of pictures."""
    pipeline = painter[2]
    run = pipeline.start(request(pipeline, (64, 48)))
    for preview in run:
        looked, ahead = preview.images[0], 1 - preview.timed.step.t_next
        latents = run._core.latents(ahead)[:, :, 0]
        assert looked == to_image(cpp_ext.decode(pipeline.stages.decode, latents, 4)[0])
    assert looked == run.result().image


def test_coarse_runs_and_maps(painter: Any) -> None:
    pipeline = painter[2]
    looks = []
    result = pipeline(
        PROMPT, size=(64, 64), steps=3, coarse=Coarse(2, 2), on_step=lambda look: looks.append(look.images[0])
    )
    assert {look.size for look in looks} == {(64, 64)} and result.image.size == (64, 64)
    assert result.report.steps[0].size == (32, 32) and result.map().width > 400
    first = pipeline(PROMPT, size=(64, 64), steps=3, coarse=Coarse(2, 2))
    assert first.image == result.image


def test_a_picture_to_begin_with(painter: Any, text: OneEncoder) -> None:
    """Encoded, noised to a time of the plan, and gone on from there, as diffusers would."""
    model, vae, pipeline = painter
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 64, 3), np.uint8)
    options: dict[str, Any] = {"steps": 6, "solver": "euler", "guidance": GUIDANCE, "ras": DENSE}
    result = pipeline(PROMPT, image=image, strength=0.5, **options)
    times = pipeline(PROMPT, size=(64, 48), **options).report.times[3:]
    assert result.report.times == times and result.report.size == (64, 48)
    with torch.no_grad():
        picture = torch.from_numpy(image.transpose(2, 0, 1)[None] / 127.5 - 1).float()
        mean = vae.encode(picture).latent_dist.mean
        data = (mean - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    noise = torch.from_numpy(noise_of(0, (1, 4, 12, 16)))
    x = times[0] * data + (1 - times[0]) * noise
    latents = euler(model, x, [features(text, PROMPT), features(text, "")], times)
    assert psnr(result.image, decoded(vae, latents)[0]) > 60


def test_what_a_mask_keeps_stays(painter: Any) -> None:
    pipeline = painter[2]
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    mask[5:30, 20:] = 255
    result = pipeline(prompts=[PROMPT, OTHER], image=image, mask=mask, steps=6)
    for each in result.images:
        np.testing.assert_array_equal(np.asarray(each)[mask == 0], image[mask == 0])
        assert (np.asarray(each) != image)[mask == 255].any()
    for again in pipeline(OTHER, seed=1, image=image, mask=mask, steps=6).images:
        assert again == result.images[1]


def test_graphs_that_do_not_fit_are_refused(painter: Any, tmp_path: Path) -> None:
    source = painter[2].bundle.directory.parent / "model"
    shutil.copytree(source, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    spec = json.loads(path.read_text())

    def refused(change: dict[str, Any], message: str) -> None:
        path.write_text(json.dumps(spec | change))
        with pytest.raises(BundleError, match=re.escape(message)):
            build_bundle(tmp_path / "model", tmp_path / "bundle")

    graphs = spec["graphs"]
    wrong = graphs | {"decode": graphs["encode"]}
    refused({"graphs": wrong}, "graphs.decode.inputs: 'latents' is missing")
    pixels = spec["latent"] | {"space": "pixels"}
    refused({"latent": pixels}, "graphs.decode is there, and latent.space is 'pixels'; allowed is 'vae'")
    bare = {name: graph for name, graph in graphs.items() if name not in ("decode", "encode", "preview")}
    refused({"latent": pixels, "graphs": bare}, "latent.downscale is 4 and latent.space 'pixels'; allowed is 1")


def test_enlarged_previews(painter: Any) -> None:
    """Of a coarse leg: its picture, made larger as a picture."""
    pipeline = painter[2]
    run = pipeline.start(request(pipeline, (64, 64)))
    small = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    made = run._decoder.pictures(small, factor=2)
    np.testing.assert_array_equal(made, upsample(cpp_ext.decode(pipeline.stages.decode, small, 4), 2))
