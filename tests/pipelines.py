"""Tiny random pipelines of every family, as diffusers saves them, and the bundles that are made of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from diffused import random_model
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Lumina2Pipeline,
    LuminaPipeline,
    StableDiffusion3Pipeline,
    ZImagePipeline,
)
from encoders import random_encoder, write_tokenizer
from test_encoders import random_vae

from flagdit.engine import cli


@dataclass(frozen=True)
class Case:
    """How diffusers assembles a family's pipeline, and what its call is told besides."""

    pipeline: Any
    transformer: str
    encoders: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    export: tuple[str, ...] = ()
    shift_factor: float | None = 0.1159
    less: float = 0.0  # what diffusers' scale of guidance is less than ours
    downscale: int = 4

    def parts(self, folder: Path) -> dict[str, Any]:
        """Everything that the pipeline is made of, tiny and random."""
        made: dict[str, Any] = {
            "transformer": random_model(self.transformer),
            "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.0),
            "vae": random_vae(4, folder / "vae", downscale=self.downscale, shift_factor=self.shift_factor),
        }
        for suffix, kind in zip(("", "_2", "_3"), self.encoders, strict=False):
            made[f"text_encoder{suffix}"] = random_encoder(kind) if kind else None
            made[f"tokenizer{suffix}"] = self.tokenizer(kind, folder / f"tokenizer{suffix}") if kind else None
        return made

    def tokenizer(self, kind: str, folder: Path) -> Any:
        made = write_tokenizer(folder, end=kind.startswith(("clip", "t5")))
        if kind.startswith("clip"):
            made.model_max_length = 77
        if kind == "qwen3":
            made.chat_template = CHAT
        return made


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LINE = ("--renormalise", "line")  # what diffusers does; the official code's is compared in test_family_runs.py
CASES = {
    # Its pipeline takes it that latents are of 8 pixels.
    "next-dit": Case(LuminaPipeline, "next-dit", ("gemma",), {"clean_caption": False}, shift_factor=None, downscale=8),
    "lumina2": Case(Lumina2Pipeline, "lumina2", ("gemma2",), export=LINE),
    "z-image": Case(ZImagePipeline, "z-image", ("qwen3",), less=1.0),
    "sd3": Case(StableDiffusion3Pipeline, "sd3", ("clip", "clip 20", "t5")),
    "sd3 without T5": Case(StableDiffusion3Pipeline, "sd3", ("clip", "clip 20", "")),
    "sd3.5": Case(StableDiffusion3Pipeline, "sd3.5", ("clip", "clip 20", "t5")),
}


def write_bundle(case: Case, folder: Path) -> Any:
    """Have diffusers save a pipeline, and the command line make `folder/bundle` of it; returns diffusers' pipeline."""
    theirs = case.pipeline(**case.parts(folder / "parts"))
    theirs.set_progress_bar_config(disable=True)
    theirs.save_pretrained(folder / "saved")
    flagdit("export", folder / "saved", "-o", folder / "model", "--size", "16x16", "--dtype", "float32", *case.export)
    flagdit("build", folder / "model", "-o", folder / "bundle")
    return theirs


def flagdit(*arguments: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["flagdit", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code
