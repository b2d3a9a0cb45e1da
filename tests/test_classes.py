"""Models of classes: a class is a prompt, and what is painted is what the official code's formulas say."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import classes
import numpy as np
import pytest
import torch
from noise import noise_of
from safetensors.torch import save_file

from flagdit.engine import DENSE, FlagditError, Pipeline, RasConfig
from flagdit.engine.bundle.builder import build_bundle
from flagdit.export import CheckpointError, ExportError, ExportOptions, export_model, open_checkpoint

NAMES = ("tench, Tinca tinca", "crane", "  Golden   Retriever , goldie", "crane, machine", "3", "", "house")
GUIDANCE, TIMES = 2.5, [0.0, 0.2, 0.6, 1.0]
CHUNKS = {"flag-dit": 6, "next-dit": 4}


def checkpoint(folder: Path, chunks: int) -> Path:
    folder.mkdir()
    save_file(classes.random_state(chunks), folder / "consolidated_ema.00-of-01.safetensors")
    (folder / "config.json").write_text(json.dumps({"n_heads": classes.HEADS}))
    return folder


@pytest.fixture(scope="module", params=CHUNKS)
def painter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Pipeline]:
    """The number of modulations, and the model exported, built and loaded."""
    folder, chunks = tmp_path_factory.mktemp(request.param), CHUNKS[request.param]
    opened = open_checkpoint(checkpoint(folder / "release", chunks))
    assert (opened.model.family, opened.ema) == ("class-dit", True)
    options = ExportOptions(name=request.param, dtype="float32", size=(16, 12), classes=NAMES)
    export_model(opened, folder / "model", options)
    build_bundle(folder / "model", folder / "bundle")
    return chunks, Pipeline.load(folder / "bundle", threads=1)


def expected(chunks: int, label: int, seed: int, guidance: float = GUIDANCE) -> np.ndarray:
    """Latents (C, H, W) by Euler's steps; guidance leads away from no class, in three channels."""
    state = classes.random_state(chunks)
    x = torch.from_numpy(noise_of(seed, (1, 4, 12, 16)))
    for t, after in pairwise(TIMES):
        cond, none = (classes.velocity(state, x, t, k) for k in (label, classes.CLASSES))
        guided = cond.clone()
        guided[:, :3] = (none + guidance * (cond - none))[:, :3]
        x = x + np.float32(after - t) * guided
    return x[0].numpy()


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_a_class_is_painted(painter: tuple[int, Pipeline]) -> None:
    """By number and by name, two in one call; a picture that is not square."""
    chunks, pipeline = painter
    how = {"steps": TIMES, "solver": "euler", "guidance": GUIDANCE, "ras": DENSE}
    found = pipeline(prompts=["2", "house"], seeds=[3, 4], **how).latents
    for latents, label, seed in zip(found, (2, 6), (3, 4), strict=True):
        assert relative(latents, expected(chunks, label, seed)) < 1e-5
    assert relative(found[0], expected(chunks, 1, 3)) > 1e-2


def test_names_are_classes(painter: tuple[int, Pipeline]) -> None:
    """In letters of any case; a name of two classes is none, and neither is a number that a name looks like."""
    table = torch.as_tensor(classes.random_state(painter[0])["y_embedder.embedding_table.weight"])
    text = painter[1].stages.text
    words = {"0": 0, "3": 3, "6": 6, "": 7, " Tench ": 0, "tinca tinca": 0, "tench, tinca tinca": 0, "[none]": 7}
    words |= {"golden retriever": 2, "GOLDIE": 2, "machine": 3, "crane, machine": 3, "house": 6}
    for word, label in words.items():
        made = text.all_features(word)["text"]
        assert np.array_equal(made, table[label].numpy()), word
    for word in ("7", "a house", "zebra", "crane", "-1", "00"):
        with pytest.raises(FlagditError, match="not in its vocabulary"):
            painter[1](word, steps=2)


def test_regions_are_painted(painter: tuple[int, Pipeline]) -> None:
    """With half of the picture a step it is near to what dense steps make."""
    how = {"steps": 8, "seed": 1, "guidance": 1.5}
    dense, regions = (painter[1]("4", ras=ras, **how) for ras in (DENSE, RasConfig(ratio=0.5)))
    assert 0 < relative(regions.latents[0], dense.latents[0]) < 0.5
    assert regions.report.expected_speedup > 1.1


def test_what_is_refused(tmp_path: Path, text_encoder: Path) -> None:
    opened = open_checkpoint(checkpoint(tmp_path / "release", 6))
    for options, message in {
        "two lines": (ExportOptions(classes=("a", "b")), "there are 2 lines, and the model has 7 classes"),
        "an encoder": (
            ExportOptions(text_encoder=text_encoder),
            "the model paints classes, which need no text encoder",
        ),
    }.values():
        with pytest.raises(ExportError, match=message):
            export_model(opened, tmp_path / "model", options)
    (tmp_path / "release/config.json").unlink()
    with pytest.raises(CheckpointError, match=r"width 48 is not 32 heads .* write n_heads to a config\.json"):
        open_checkpoint(tmp_path / "release")
