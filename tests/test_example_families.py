"""The training example's other families: they learn, and what they keep is exported as diffusers computes it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exported import Exported
from recipe import module
from tiny import TINY, random_flag_dit, write_text_encoder
from torch import Tensor

from flagdit.engine import DENSE, Pipeline, RasConfig, cli
from flagdit.export.errors import ExportError
from flagdit.export.families.mmdit.one_encoder import OneEncoder
from flagdit.export.parts.text.given import Folder, check_given

TEXT, SIZE, LENGTHS = 16, 32, (5, 9)
COMMON: dict[str, Any] = {"sample_size": SIZE, "patch_size": 4, "in_channels": 3, "num_layers": 3}
SHAPES: dict[str, dict[str, Any]] = {
    "next-dit": {
        **COMMON,
        "hidden_size": 48,
        "num_attention_heads": 4,
        "num_kv_heads": 4,
        "multiple_of": 32,
        "learn_sigma": False,
        "cross_attention_dim": TEXT,
    },
    "mmdit": {
        **COMMON,
        "out_channels": 3,
        "attention_head_dim": 12,
        "num_attention_heads": 4,
        "joint_attention_dim": TEXT,
        "pooled_projection_dim": TEXT,
        "caption_projection_dim": 48,
        "pos_embed_max_size": 24,
        "qk_norm": "rms_norm",
    },
}
CLASSES = {"next-dit": ("painters.next_dit", "NextPainter"), "mmdit": ("painters.mmdit", "MMPainter")}


def painter(family: str, *, plain: bool = True) -> Any:
    """An untrained one; without `plain` attention is diffusers' own."""
    folder, name = CLASSES[family]
    return getattr(module(folder), name)(SHAPES[family], plain=plain)


def features(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Text (2, 9, TEXT) of two lengths, zero behind its end, and its mask."""
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    text = torch.randn(2, max(LENGTHS), TEXT, generator=torch.Generator().manual_seed(seed))
    return text * mask[..., None], mask


@pytest.fixture(params=CLASSES)
def family(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return str(request.param)


class Texts:
    """In the encoder's place."""

    def features(self, tokens: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return features()


def drawn(seed: int) -> Any:
    """The same two pictures always, at other times and noise."""
    images = torch.linspace(-1, 1, SIZE) * torch.tensor([1.0, -1.0])[:, None, None, None]
    batch = images.expand(2, 3, SIZE, SIZE).contiguous()
    return SimpleNamespace(images=batch, size=SimpleNamespace(noise=0.5), tokens={}, seed=seed)


def train(state: Any, loss: Any, steps: int, *, taught: bool) -> None:
    for step in range(steps):
        for group in state.optimizer.param_groups:
            group["lr"] = 3e-3 * group["rate"]
        loss(state.model, drawn(step), taught=taught).backward()
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.progress.step += 1
        state.update_average(0.9)


def test_a_few_steps_lower_the_loss(family: str) -> None:
    """Of the model and of the average, which is what is kept, at times and noise that were not trained on."""
    state = module("state").TrainState(lambda: painter(family))
    loss = module("flow").FlowLoss(Texts(), "cpu")

    def held_out(model: Any) -> float:
        with torch.no_grad():
            return float(np.mean([loss(model, drawn(1000 + seed)).item() for seed in range(4)]))

    before = held_out(state.model)
    train(state, loss, 40, taught=False)
    assert held_out(state.model) < 0.7 * before and held_out(state.average) < 0.7 * before


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # of a norm's weights under autocast
def test_a_teacher_is_learned_from_inside_and_out(family: str) -> None:
    """Its velocity comes nearer, and what its layers make."""
    flag = module("painters.flag_dit").FlagPainter(TINY)
    flag.begin_with(random_flag_dit(TINY))
    state = module("state").TrainState(lambda: painter(family))
    state.begin_with(flag.net)
    loss = module("flow").FlowLoss(Texts(), "cpu", flag.requires_grad_(False))

    def apart() -> tuple[float, float]:
        image, t = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2)), torch.tensor([0.2, 0.7])
        layers_of = module("painters.painter").layers_of
        with torch.no_grad(), layers_of(flag, image) as theirs, layers_of(state.model, image) as ours:
            error = state.model(image, t, *features()) - flag(image, t, *features())
        assert len(ours) == len(theirs) == 3 and ours[0].shape == (2, 64, 48)
        inside = [((a - b).square().mean() / b.square().mean()).item() for a, b in zip(ours, theirs, strict=True)]
        return error.square().mean().item(), float(np.mean(inside))

    before = apart()
    train(state, loss, 40, taught=True)
    after = apart()
    assert after[0] < 0.7 * before[0] and after[1] < before[1]


def test_a_model_begins_with_what_it_shares(family: str) -> None:
    """Queries are those of both attentions of diffusers' Next-DiT; an MMDiT's velocity has another sign."""
    flag, made = random_flag_dit(TINY), painter(family)
    made.begin_with(flag)
    own, given = made.net.state_dict(), flag.state_dict()
    ends = ("patch_embedder.proj.bias", 1) if family == "next-dit" else ("pos_embed.proj.bias", 1)
    torch.testing.assert_close(own[ends[0]], given["x_embedder.bias"], atol=0, rtol=0)
    if family == "next-dit":
        for name in ("attn1", "attn2"):
            assert torch.equal(own[f"layers.2.{name}.to_q.weight"], given["layers.2.attention.wq.weight"])
        assert torch.equal(own["layers.1.feed_forward.linear_3.weight"], given["layers.1.feed_forward.w3.weight"])
    else:
        assert torch.equal(own["proj_out.weight"], -given["final_layer.linear.weight"])


@dataclass(frozen=True)
class Made:
    """A family's kept weights in diffusers' own implementation, and the bundle that the command line makes of them."""

    family: str
    model: Any
    encoder: Path
    directory: Path
    bundle: Path


@pytest.fixture(scope="module", params=CLASSES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, family = tmp_path_factory.mktemp("made"), request.param
    torch.manual_seed(0)
    state = module("state").TrainState(lambda: painter(family))
    with torch.no_grad():
        for parameter in state.average.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    state.save(folder / "run")
    again = module("state").TrainState(lambda: painter(family))
    again.load(folder / "run")
    theirs = painter(family, plain=False)
    theirs.net.load_state_dict(again.average.net.state_dict())
    encoder = write_text_encoder(folder / "text", TEXT)
    options = ("--size", "32x32", "--dtype", "float32", "--text-encoder", encoder, "--max-text-tokens", 16)
    flagdit("export", folder / "run", "-o", folder / "model", *options)
    flagdit("build", folder / "model", "-o", folder / "bundle")
    return Made(family, theirs.eval(), encoder, folder / "model", folder / "bundle")


def flagdit(*arguments: object) -> None:
    """Run the command line, which has to succeed."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["flagdit", *map(str, arguments)])
        cli.main()
    assert not end.value.code


def test_an_export_is_diffusers_velocity(made: Made) -> None:
    """Of texts of two lengths, and a picture that is not square."""
    exported = Exported(made.directory)
    text, mask = features(3)
    image = torch.randn(2, 3, 24, SIZE, generator=torch.Generator().manual_seed(4))
    alone = [{"text": t[m].numpy()} for t, m in zip(text, mask, strict=True)]
    conditions = exported.at(exported.condition([0.3], alone), 0)
    fixed = {**exported.placed(6, 8, 2), **exported.tails(2)}
    out = exported.run("denoise", {**fixed, **conditions, "tokens": exported.patchify(image.numpy())})
    with torch.no_grad():
        wanted = made.model(image, torch.full((2,), 0.3), text, mask).numpy()
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-2
    np.testing.assert_allclose(exported.unpatchify(out["velocity"], 24, SIZE), wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_run_is_diffusers_from_the_sentence_on(made: Made) -> None:
    """Guided Euler steps of sentences of two lengths; regions come close to them."""
    from transformers import AutoModel, PreTrainedTokenizerFast

    pipeline = Pipeline.load(made.bundle, threads=1)
    prompts, steps = ["a red apple on the left", "a star"], 4
    options: dict[str, Any] = {"prompts": prompts, "seeds": [0, 1], "size": (SIZE, SIZE), "guidance": 2.0}
    result = pipeline(**options, steps=steps, solver="euler", ras=DENSE, shift=1.0)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(made.encoder / "tokenizer.json"), pad_token="[PAD]")
    tokens = tokenizer([*prompts, "", ""], padding=True, return_tensors="pt")
    mask = tokens["attention_mask"].bool()
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(made.encoder)(tokens["input_ids"], tokens["attention_mask"])
        text = hidden.last_hidden_state * mask[..., None]
        x = torch.from_numpy(noise(result, prompts))
        for step in range(steps):
            asked, free = made.model(torch.cat([x, x]), torch.full((4,), step / steps), text, mask).chunk(2)
            x = x + (free + 2.0 * (asked - free)) / steps
    assert np.abs(result.latents - x.numpy()).max() < 1e-4 * x.abs().max().item()
    close = pipeline(**options, steps=8, ras=RasConfig(0.7))
    assert 0 < np.abs(close.latents - pipeline(**options, steps=8, ras=DENSE).latents).max() < x.abs().max().item()


def noise(result: Any, prompts: list[str]) -> Any:
    """What a run begins with, by its seeds."""
    from noise import noise_of

    return np.concatenate([noise_of(seed, (1, 3, SIZE, SIZE)) for seed in range(len(prompts))])


def test_no_text_is_longer_than_what_an_mmdit_fills_it_up_to(tmp_path: Path) -> None:
    folder = Folder(*[write_text_encoder(tmp_path, TEXT)] * 2)
    wanted = OneEncoder(TEXT).wanted()
    check_given({"text": folder}, wanted, 32, examples=())
    with pytest.raises(ExportError, match="max_text_tokens is 33, and the model takes 32; allowed are 2 to 32"):
        check_given({"text": folder}, wanted, 33, examples=())


def test_what_is_exported_says_what_it_is(made: Made) -> None:
    spec = json.loads((made.directory / "model.json").read_text())
    assert spec["family"] == made.family and spec["latent"] == {"space": "pixels", "channels": 3, "size": [32, 32]}
    assert spec["guidance"]["channels"] == [0, 1, 2]
