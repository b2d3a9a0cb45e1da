"""Skip-layer guidance: whole pipelines against diffusers', and what plans, prices and refusals say of it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffused import FAMILIES
from exported import Exported
from noise import noise_of
from pipelines import CASES, write_bundle
from test_whole_pipelines import PROMPTS, expected

from flagdit.engine import DENSE, BundleError, Pipeline, SkipLayerGuidance
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.bundle.reader import read_spec
from flagdit.engine.commands.again import command
from flagdit.engine.media import metadata
from flagdit.export.families.family import without_numbers
from flagdit.export.families.mmdit.config import MMDiTConfig
from flagdit.export.families.mmdit.model import MMDiT
from flagdit.export.families.mmdit.names import OpenedMMDiT

Flagdit = Callable[..., tuple[int, str, str]]

LAYERS = (0, 2)  # of three: one with two attentions, and the last
TIMES = [0.0, 0.05, 0.15, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Pipeline]:
    """A tiny pipeline of diffusers, and its bundle."""
    folder = tmp_path_factory.mktemp("sd3.5")
    return write_bundle(CASES["sd3.5"], folder), Pipeline.load(folder / "bundle", threads=1)


@pytest.mark.parametrize(
    ("skips", "size", "prompts", "negative"),
    [
        (SkipLayerGuidance(2.8, 0.01, 0.5, LAYERS), (16, 16), PROMPTS[:1], "a book"),
        (SkipLayerGuidance(1.5, 0.2, 1.0, [1]), (32, 8), PROMPTS, ""),
    ],
)
def test_latents_are_those_of_diffusers(
    pair: tuple[Any, Pipeline], skips: SkipLayerGuidance, size: tuple[int, int], prompts: list[str], negative: str
) -> None:
    theirs, ours = pair
    case, (width, height) = CASES["sd3.5"], size
    noise = np.concatenate([noise_of(i, (1, 4, height, width)) for i in range(len(prompts))])
    options = {
        "skip_guidance_layers": list(skips.layers or ()),
        "skip_layer_guidance_scale": skips.scale,
        "skip_layer_guidance_start": skips.start,
        "skip_layer_guidance_stop": skips.stop,
    }
    latents, _ = expected(case, theirs, prompts, noise, 2.5, negative, times=TIMES, **options)
    given: dict[str, Any] = {
        "negative": negative,
        "size": (width * case.downscale, height * case.downscale),
        "steps": TIMES,
        "solver": "euler",
        "guidance": 2.5,
        "ras": DENSE,
    }
    result = ours(prompts=prompts, skip_layer_guidance=skips, **given)
    np.testing.assert_allclose(result.latents, latents, atol=1e-5 * np.abs(latents).max(), rtol=0)
    usual = ours(prompts=prompts, **given).latents
    assert np.abs(result.latents - usual).max() > 1e-2 * np.abs(latents).max()


@pytest.mark.parametrize("active", [7, 30])
def test_a_row_that_skips_layers_is_diffusers_dense_and_in_regions(
    of_family: Callable[[str], tuple[Any, Path]], active: int
) -> None:
    """`denoise` is one graph: rows of both kinds in one call; then a head against the caches of the rest."""
    model, directory = of_family("sd3.5")
    exported, family = Exported(directory), FAMILIES["sd3.5"]
    text = family.features(0, 9)
    latents = np.random.default_rng(3).standard_normal((1, exported.channels, 16, 12)).astype(np.float32)
    rows = [exported.at(exported.condition([0.4], [text], skipped), 0) for skipped in ((), LAYERS)]
    conditions = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    tokens, placed = exported.patchify(np.repeat(latents, 2, 0)), exported.placed(8, 6, 2)
    dense = exported.run("denoise", {**placed, **exported.tails(2), **conditions, "tokens": tokens})
    given = {name: torch.from_numpy(value)[None] for name, value in text.items()}
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        whole = family.velocity(model, torch.from_numpy(latents), 0.4, given).numpy()
        patch.setattr(model, "forward", functools.partial(model.forward, skip_layers=list(LAYERS)))
        skipping = family.velocity(model, torch.from_numpy(latents), 0.4, given).numpy()
    found = exported.unpatchify(dense["velocity"], 16, 12)
    for row, wanted in zip(found, (whole, skipping), strict=True):
        np.testing.assert_allclose(row, wanted[0], atol=1e-5 * np.abs(wanted).max(), rtol=0)
    assert np.abs(whole - skipping).max() > 0.1 * np.abs(whole).max()

    tail = {name: dense[name.replace("_tail", "_head")][active:] for name in exported.tails(2)}
    head = {name: values[:active] for name, values in {**placed, "tokens": tokens}.items()}
    part = exported.run("denoise", {**head, **tail, **conditions})
    for port, array in part.items():
        wanted = dense[port][: len(array)]
        np.testing.assert_allclose(array, wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)


def test_the_command_line(flagdit: Flagdit, pair: tuple[Any, Pipeline], tmp_path: Path) -> None:
    """A picture with regions, its plan, and the command that makes it again."""
    bundle = pair[1].bundle.directory
    options = ("--steps", 12, "--ratio", 0.5, "--ras", "warmup=2", "--skip-layer-guidance", "2.8:0.01:0.5:0,2")
    code, out, err = flagdit("plan", "--bundle", bundle, *options, "--json")
    assert code == 0, err
    steps = json.loads(out)["steps"]
    assert [step["branches"] for step in steps] == [2, *[3] * 5, *[2] * 6]
    assert steps[6]["why"] == "skipping layers has ended" and not steps[5]["dense"]
    out = flagdit("plan", "--bundle", bundle, *options)[1]
    assert "▓ a branch without the layers 0, 2 besides, in 5 steps" in out and "▀" not in out
    assert [line.count("▓") > 0 for line in out.splitlines()[1:13]] == [step["branches"] == 3 for step in steps]
    code, _, err = flagdit("generate", "a star", "--bundle", bundle, *options, "-o", "a.png", "--report", "a.json")
    assert code == 0, err
    report = json.loads(Path("a.json").read_text())
    assert [step["branches"] for step in report["steps"]] == [step["branches"] for step in steps]
    assert report["skip_layer_guidance"] == {"scale": 2.8, "start": 0.01, "stop": 0.5, "layers": [0, 2]}
    out = flagdit("inspect", "a.png")[1]
    assert "scale 2.8, start 0.01, stop 0.5, layers 0 2" in out
    arguments = command(metadata.read(Path("a.png")), "b.png")
    assert arguments[arguments.index("--skip-layer-guidance") + 1] == "2.8:0.01:0.5:0,2"
    assert "may skip some of 3 layers" in flagdit("inspect", bundle)[1]
    plain = flagdit("generate", "a star", "--bundle", bundle, *options[:-1], 0, "-o", "c.png")
    assert plain[0] == 0 and metadata.read(Path("c.png")).skip_layer_guidance is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", "a", "--skip-layer-guidance", "much"), "is not SCALE[:START[:STOP[:LAYERS]]]; for instance 2.8"),
        (("generate", "a", "--skip-layer-guidance", "2:.1:.2:7;8"), "is not SCALE[:START[:STOP[:LAYERS]]]"),
        (("generate", "a", "--skip-layer-guidance", 200), "skip_layer_guidance is 200.0; allowed are above 0 to 100"),
        (("generate", "a", "--skip-layer-guidance", 2), "this bundle's model has no branch that skips layers"),
        (("plan", "--tokens", 64, "--skip-layer-guidance", 2), "--skip-layer-guidance needs --bundle"),
        (("plan", "--bundle", "demo", "--skip-layer-guidance", 2), "this bundle's model has no branch that skips"),
    ],
)
def test_the_command_line_refuses(flagdit: Flagdit, arguments: tuple[object, ...], message: str) -> None:
    code, _, err = flagdit(*arguments)
    assert code == 2 and message in " ".join(err.split())


def test_what_the_manifest_says(of_family: Callable[[str], tuple[Any, Path]], tmp_path: Path) -> None:
    """Layers that suit the model are some that `condition` is told of; an export that says nothing has none."""
    spec = read_spec(of_family("sd3.5")[1] / "model.json", ModelSpec)
    assert (spec.layers, spec.guidance.skip_layers) == (3, ())
    text = spec.model_dump(mode="json")
    for layers, message in (([2], None), ([3], "guidance.skip_layers: 3; allowed are numbers below 3")):
        text["guidance"]["skip_layers"] = layers
        path = tmp_path / "model.json"
        path.write_text(json.dumps(text))
        if message is None:
            assert read_spec(path, ModelSpec).guidance.skip_layers == (2,)
            continue
        with pytest.raises(BundleError, match=message):
            read_spec(path, ModelSpec)


def test_layers_of_the_releases() -> None:
    """Stable Diffusion 3.5 medium says 7, 8, 9; of its shape nobody else."""
    shape = {
        "dim": 64,
        "n_heads": 4,
        "ffn_dim": 8,
        "joint_dim": 8,
        "pooled_dim": 12,
        "patch_size": 2,
        "in_channels": 16,
    }
    for layers, dual, wanted in ((24, 13, (7, 8, 9)), (24, 0, ()), (38, 0, ())):
        config = MMDiTConfig(**shape, n_layers=layers, dual=dual, table=4)
        assert OpenedMMDiT(config, without_numbers(MMDiT, config)).facts().skip_layers == wanted
