"""A pipeline's folder as diffusers saves it: all its parts go in, and a sentence becomes the same velocity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from diffused import FAMILIES, saved
from encoders import write_encoder, write_tokenizer
from exported import Exported
from test_encoders import random_vae
from tokenizers import Tokenizer

from flagdit.engine.bundle import ModelSpec
from flagdit.export import ExportError, ExportOptions, open_checkpoint
from flagdit.export.families.mmdit.encoders import Encoders
from flagdit.export.parts.text.given import Folder, check_given
from flagdit.export.pipeline_folder import folders, with_parts

KINDS = {"": "clip", "_2": "clip 20", "_3": "t5"}


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    folder = tmp_path / "pipe"
    saved("sd3", folder / "transformer")
    random_vae(4, folder / "vae")
    for suffix, kind in KINDS.items():
        write_encoder(kind, folder / f"text_encoder{suffix}")
        write_tokenizer(folder / f"tokenizer{suffix}", end=True)
    return folder


def test_parts_are_found(pipe: Path) -> None:
    wanted = open_checkpoint(pipe).model.facts().encoders
    found = with_parts(ExportOptions(), pipe, wanted)
    assert found.vae == pipe / "vae"
    assert found.given() == {
        name: Folder(pipe / f"text_encoder{suffix}", pipe / f"tokenizer{suffix}")
        for name, suffix in zip(("clip_l", "clip_g", "t5"), KINDS, strict=True)
    }
    assert with_parts(ExportOptions(), pipe / "transformer", wanted) == ExportOptions()
    mine = ExportOptions(text_encoders={"t5": Folder(pipe, pipe)}, vae=pipe / "other")
    found = with_parts(mine, pipe, wanted)
    assert found.given()["t5"] == Folder(pipe, pipe) and found.vae == pipe / "other"
    check_given(with_parts(ExportOptions(), pipe, wanted).given(), wanted, None, int8=False, examples=())


def test_encoders_are_named(pipe: Path) -> None:
    assert folders(["clip_l=a/b", "c"]) == {
        "clip_l": Folder(Path("a/b"), Path("a/b")),
        "text": Folder(Path("c"), Path("c")),
    }
    assert folders([f"t5={pipe}/text_encoder_3"])["t5"].tokenizer == pipe / "tokenizer_3"
    with pytest.raises(ExportError, match="two text encoders are text; give each as NAME=DIRECTORY"):
        folders(["a", "b"])


def test_t5_may_be_left_out_and_clip_may_not(pipe: Path) -> None:
    """As in diffusers: zeros take its place."""
    model = open_checkpoint(pipe).model
    encoders = Encoders(12, 20, t5=False, width=64)
    features = [torch.randn(2, 77, 12), torch.randn(2, 12), torch.randn(2, 77, 20), torch.randn(2, 20)]
    text, pooled = encoders.join(features, 64)
    assert text.shape == (2, 333, 64) and pooled.shape == (2, 32)
    assert text[:, :77, :32].abs().min() > 0 and text[:, :77, 32:].eq(0).all() and text[:, 77:].eq(0).all()
    assert [encoder.name for encoder in model.without({"t5"}).facts().encoders if not encoder.optional] == [
        "clip_l",
        "clip_g",
    ]
    given = with_parts(ExportOptions(), pipe, model.facts().encoders).given()
    del given["t5"]
    check_given(given, model.facts().encoders, None, int8=False, examples=())
    del given["clip_g"]
    with pytest.raises(ExportError, match="also needs the text encoder clip_g; give --text-encoder clip_g=DIRECTORY"):
        check_given(given, model.facts().encoders, None, int8=False, examples=())


def features(folder: Path, texts: list[dict[str, Any]], prompt: str) -> dict[str, np.ndarray]:
    """What the graphs make of a prompt: cut and filled up as the entries say."""
    made = {}
    for text in texts:
        ids = Tokenizer.from_file(str(folder / text["tokenizer"])).encode(prompt).ids
        ids += [text["padding"]] * (text["max_tokens"] - len(ids))
        session = ort.InferenceSession(folder / text["graph"]["file"])
        feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        found = session.run(None, {port.name: feeds[port.name] for port in session.get_inputs()})
        made |= {port.name: array[0] for port, array in zip(session.get_outputs(), found, strict=True)}
    return made


def theirs(pipe: Path, prompt: str) -> dict[str, torch.Tensor]:
    """The same by transformers, filled up as diffusers does: nothing is masked."""
    from transformers import AutoTokenizer, CLIPTextModelWithProjection, T5EncoderModel

    made = {}
    for suffix, name in (("", "clip_l"), ("_2", "clip_g"), ("_3", "t5")):
        tokenizer = AutoTokenizer.from_pretrained(pipe / f"tokenizer{suffix}")
        length = 256 if name == "t5" else 77
        ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        kind = T5EncoderModel if name == "t5" else CLIPTextModelWithProjection
        model = kind.from_pretrained(pipe / f"text_encoder{suffix}").eval()
        with torch.no_grad():
            out = model(ids, output_hidden_states=True)
        if name == "t5":
            made[name] = out.last_hidden_state
        else:
            made |= {name: out.hidden_states[-2], f"{name}_pooled": out.text_embeds}
    return made


@pytest.mark.slow
def test_a_pipeline_by_the_command_line(flagdit, pipe: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from diffusers import SD3Transformer2DModel

    code, _, err = flagdit("export", pipe, "-o", "model", "--dtype", "float32", "--size", "16x16")
    assert code == 0, err
    folder = tmp_path / "model"
    exported, spec = Exported(folder), ModelSpec.model_validate(json.loads((folder / "model.json").read_text()))
    assert (spec.latent.downscale, spec.latent.size, spec.flow.shift, spec.guidance.scale) == (4, (64, 64), 3.0, 7.0)
    assert [(text.max_tokens, text.padding, text.truncate) for text in spec.texts] == [
        (77, 0, True),
        (77, 0, True),
        (256, 0, False),
    ]
    files = {path.name for path in folder.iterdir()}
    assert {"text_encoder.t5.safetensors", "tokenizer.clip_g.json", "decode.onnx", "vae.safetensors"} <= files

    prompt, latents = "a red apple", np.random.default_rng(0).standard_normal((1, 4, 8, 12)).astype(np.float32)
    ours = features(folder, exported.spec["texts"], prompt)
    conditions = exported.at(exported.condition([0.3], [ours]), 0)
    feeds = {**exported.placed(4, 6, 1), **exported.tails(1), **conditions, "tokens": exported.patchify(latents)}
    found = exported.unpatchify(exported.run("denoise", feeds)["velocity"], 8, 12)
    transformer = SD3Transformer2DModel.from_pretrained(pipe / "transformer").eval()
    with torch.no_grad():
        wanted = FAMILIES["sd3"].velocity(transformer, torch.from_numpy(latents), 0.3, theirs(pipe, prompt)).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)
