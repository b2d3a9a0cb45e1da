"""Sentence to latents by the engine, against diffusers and transformers: guided and not, two captions at once."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffused import FAMILIES
from encoders import WIDTH, write_encoder, write_tokenizer
from noise import noise_of
from torch import Tensor

from flagdit.engine import DENSE, Pipeline, RasConfig, RequestError
from flagdit.engine.bundle.builder import build_bundle
from flagdit.export.families.mmdit.encoders import Encoders
from flagdit.export.parts.text.encoder import Encoder
from flagdit.export.parts.text.given import Folder, export_given

PROMPTS, SIZE, GUIDANCE = ("a red apple on the left", "a star"), (16, 12), 2.5
SYSTEM, CHAT = "the modern background of <Prompt Start> {}", "user {} assistant"
Texts = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A family as it runs: what its texts are put into, and what guidance does with norms (families.md 1.3, 1.4)."""

    family: str
    template: str = "{}"
    negative: str | None = None
    renormalise: str = "none"


CASES = {
    "next-dit": Case("next-dit"),
    "lumina2": Case("lumina2", SYSTEM, "{}", "picture"),
    "lumina2 as diffusers": Case("lumina2", SYSTEM, "{}", "line"),
    "z-image": Case("z-image", CHAT),  # 48 patches and 16 tokens that fill up
    "sd3": Case("sd3"),
}


class OneEncoder:
    """Gemma 2, the layer before the last."""

    def __init__(self, folder: Path) -> None:
        self.model, self.tokenizer = write_encoder("gemma2", folder), write_tokenizer(folder)
        self.given = {"text": Folder(folder, folder)}
        self.wanted: tuple[Encoder, ...] = (Encoder("text", WIDTH, layer=-2, max_tokens=16),)

    def features(self, text: str) -> Texts:
        ids = self.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            return {"text": self.model(**ids, output_hidden_states=True).hidden_states[-2]}


class ThreeEncoders:
    """Of Stable Diffusion 3, filled up as diffusers does: nothing is masked."""

    KINDS = (("clip_l", "clip", 77), ("clip_g", "clip 20", 77), ("t5", "t5", 256))

    def __init__(self, folder: Path) -> None:
        self.models = [write_encoder(kind, folder / name) for name, kind, _ in self.KINDS]
        self.tokenizers = [write_tokenizer(folder / name, end=True) for name, *_ in self.KINDS]
        self.given = {name: Folder(folder / name, folder / name) for name, *_ in self.KINDS}
        self.wanted = Encoders(12, 20, width=64).wanted()

    def features(self, text: str) -> Texts:
        made: Texts = {}
        for (name, _, length), model, tokenizer in zip(self.KINDS, self.models, self.tokenizers, strict=True):
            whole = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
            with torch.no_grad():
                out = model(tokenizer(text, **whole).input_ids, output_hidden_states=True)
            if name == "t5":
                made[name] = out.last_hidden_state
            else:
                made |= {name: out.hidden_states[-2], f"{name}_pooled": out.text_embeds}
        return made


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path, list[dict[str, Any]]]]:
    """The encoders of a family, the folder with their graphs, and what `model.json` says of them."""

    @functools.cache
    def make(family: str) -> tuple[Any, Path, list[dict[str, Any]]]:
        folder = tmp_path_factory.mktemp("text")
        encoders = (ThreeEncoders if family == "sd3" else OneEncoder)(folder / "source")
        (folder / "made").mkdir()
        options: dict[str, Any] = {"max_tokens": 16, "dtype": "float32", "progress": lambda _: None}
        return encoders, folder / "made", export_given(encoders.given, encoders.wanted, folder / "made", **options)

    return lambda family: make("sd3" if family == "sd3" else "")


@dataclass(frozen=True)
class Both:
    """A case, its model of diffusers with its encoders, and the same loaded."""

    case: Case
    model: Any
    encoders: Any
    pipeline: Pipeline

    def texts(self, prompt: str, *, negative: bool = False) -> Texts:
        into = self.case.template if not negative or self.case.negative is None else self.case.negative
        return self.encoders.features(into.replace("{}", prompt))  # type: ignore[no-any-return]

    def expected(self, prompt: str, seed: int, times: list[float], guidance: float, negative: str = "") -> Any:
        """Latents (C, H, W) by Euler's steps of diffusers' model."""
        family, texts = FAMILIES[self.case.family], [self.texts(prompt), self.texts(negative, negative=True)]
        x = torch.from_numpy(noise_of(seed, (1, 4, SIZE[1], SIZE[0])))
        for t, after in pairwise(times):
            with torch.no_grad():
                rows = [family.velocity(self.model, x, t, each) for each in texts[: 1 if guidance == 1 else 2]]
            x = x + (after - t) * self.guided(rows, guidance)
        return x[0].numpy()

    def guided(self, rows: list[Tensor], guidance: float) -> Tensor:
        if len(rows) == 1:
            return rows[0]
        cond, uncond = rows
        out = cond.clone()
        channels = [0, 1, 2] if self.case.family == "next-dit" else [0, 1, 2, 3]
        out[:, channels] = (uncond + guidance * (cond - uncond))[:, channels]
        if self.case.renormalise == "line":  # pipeline_lumina2.py of diffusers
            out = out * (torch.norm(cond, dim=-1, keepdim=True) / torch.norm(out, dim=-1, keepdim=True))
        if self.case.renormalise == "picture":  # Lumina-Image 2.0's renorm_cfg of 1
            most, norm = torch.linalg.vector_norm(cond), torch.linalg.vector_norm(out)
            out = out * (most / norm) if norm >= most else out
        return out


@pytest.fixture(scope="module", params=CASES)
def both(request: pytest.FixtureRequest, of_family, tmp_path_factory, encoded) -> Both:  # type: ignore[no-untyped-def]
    case = CASES[request.param]
    model, folder = of_family(case.family)
    encoders, made, entries = encoded(case.family)
    whole = tmp_path_factory.mktemp("run")
    shutil.copytree(folder, whole / "model")
    shutil.copytree(made, whole / "model", dirs_exist_ok=True)
    spec = json.loads((folder / "model.json").read_text())
    spec["texts"] = [{**entry, "template": case.template, "negative": case.negative} for entry in entries]
    if case.renormalise == "line":
        spec["guidance"]["renormalise"] = "line"
    assert spec["guidance"].get("renormalise", "none") == case.renormalise
    (whole / "model" / "model.json").write_text(json.dumps(spec))
    build_bundle(whole / "model", whole / "bundle")
    return Both(case, model, encoders, Pipeline.load(whole / "bundle", threads=1))


def close(found: Any, wanted: Any) -> bool:
    return bool(np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("guidance", [1.0, GUIDANCE])
def test_sentences_become_diffusers_latents(both: Both, guidance: float) -> None:
    """Two captions of unlike length in one batch; a picture that is not square."""
    result = both.pipeline(
        prompts=PROMPTS, seeds=[0, 5], size=SIZE, steps=4, solver="euler", guidance=guidance, ras=DENSE
    )
    times = result.report.times
    wanted = [both.expected(prompt, seed, times, guidance) for prompt, seed in zip(PROMPTS, (0, 5), strict=True)]
    assert np.abs(wanted[0] - wanted[1]).max() > 0.1
    for found, latents in zip(result.latents, wanted, strict=True):
        assert close(found, latents)


def test_a_negative_prompt(both: Both) -> None:
    """It is put into what is said of it, and branches that run apart make the same."""
    options: dict[str, Any] = {"size": SIZE, "steps": 3, "solver": "euler", "guidance": GUIDANCE, "negative": "a book"}
    together = both.pipeline(PROMPTS[0], ras=DENSE, **options)
    wanted = both.expected(PROMPTS[0], 0, together.report.times, GUIDANCE, "a book")
    assert close(together.latents[0], wanted)
    apart = both.pipeline(PROMPTS[0], ras=RasConfig(1.0, guidance_every=2, guidance_warmup=3), **options)
    assert close(apart.latents[0], wanted)


def test_regions_come_close(both: Both) -> None:
    """And closer with more of them: keys of every layer, and norms, move with their tokens."""
    options: dict[str, Any] = {"size": SIZE, "steps": 12, "guidance": GUIDANCE}
    dense, much, little = (
        both.pipeline(PROMPTS[0], ras=ras, **options).latents for ras in (DENSE, RasConfig(0.3), RasConfig(0.6))
    )
    assert 0 < np.abs(little - dense).max() < np.abs(much - dense).max() < np.abs(dense).max()


def test_prompts_that_are_too_long(both: Both) -> None:
    """Of several encoders those that cut leave it to the longest; the template counts."""
    most = 256 if both.case.family == "sd3" else 16
    marks = 2 if both.case.family == "sd3" else 1
    room = most - marks - len(both.case.template.replace("{}", "").split())
    both.pipeline(" ".join(["red"] * room), size=SIZE, steps=1, ras=DENSE, solver="euler")
    with pytest.raises(RequestError, match=f"the prompt has {most + 1} tokens; allowed are {most}, please shorten it"):
        both.pipeline(" ".join(["red"] * (room + 1)), size=SIZE, steps=1, ras=DENSE, solver="euler")
