"""A pipeline's folder as diffusers saves it: all its parts go in, and a sentence becomes the same velocity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffused import saved
from encoders import write_encoder, write_tokenizer
from test_encoders import random_vae

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
    check_given(with_parts(ExportOptions(), pipe, wanted).given(), wanted, None, examples=())


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
    check_given(given, model.facts().encoders, None, examples=())
    del given["clip_g"]
    with pytest.raises(ExportError, match="also needs the text encoder clip_g; give --text-encoder clip_g=DIRECTORY"):
        check_given(given, model.facts().encoders, None, examples=())
