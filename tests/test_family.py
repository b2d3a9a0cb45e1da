"""The runtime knows no family of models: not by its name, not by its formulas, not by names of its tensors."""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
import tokenize
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from noise import noise_of
from other import Other, painted, write_other

from flagdit.engine import DENSE, Pipeline, RasConfig
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.layout import model_shift

ROOT = Path(__file__).parents[1]
FAMILIES = re.compile(
    r"flag[-_ ]dit|next[-_ ]?dit|mm[-_]?dit|lumina|\bsd[-_]?3|stable[-_ ]diffusion|z[-_ ]image|flux|nextline", re.I
)


def code_of(path: Path) -> Iterator[str]:
    """All of a source file but comments and docstrings, a piece at a time."""
    text = path.read_text()
    if path.suffix != ".py":
        yield re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
        return
    spans = [
        (node.body[0].lineno, node.body[0].end_lineno or 0)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node) is not None
    ]
    spans += [
        (node.lineno, node.end_lineno or 0)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        documents = any(first <= token.start[0] <= last for first, last in spans)
        if token.type != tokenize.COMMENT and not documents:
            yield token.string


def sources(*rooms: str) -> list[Path]:
    found = [path for room in rooms for kind in ("py", "cpp", "h", "cu") for path in (ROOT / room).rglob(f"*.{kind}")]
    return [path for path in found if "third_party" not in path.parts]


def test_no_source_of_the_runtime_names_a_family() -> None:
    files = sources("engine", "cpp_ext")
    assert len(files) > 150
    named = {(path.name, piece[:60]) for path in files for piece in code_of(path) if FAMILIES.search(piece)}
    assert not named
    assert any(FAMILIES.search(piece) for path in sources("export") for piece in code_of(path))  # the test can fail


def test_no_source_of_the_runtime_reads_a_family() -> None:
    """`inspect` shows it to people."""
    reads = {
        path.name
        for path in sources("engine")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("family", "config") and _is_model(node.value)
    }
    assert reads == {"inspect.py"}


def _is_model(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.strip("_") in ("model", "spec")


def test_any_family_paints_the_same_picture(flagdit, pipeline: Pipeline, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    other = Path(shutil.copytree(bundle_dir, tmp_path / "other"))
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["model"] |= {"family": "\u9b5a, or 2", "config": {"dim": "none", "rope_theta": -1}}
    (other / "manifest.json").write_text(json.dumps(manifest))
    build_bundle(other, tmp_path / "again")
    options = {"prompt": "a red apple", "size": (48, 32), "steps": 6, "ntk": "auto", "proportional": True}
    expected = pipeline(**options).latents  # type: ignore[arg-type]
    for folder in ("other", "again"):
        found = Pipeline.load(tmp_path / folder, threads=1)(**options).latents  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, expected)
    code, out, _ = flagdit("inspect", other)
    assert code == 0 and "\u9b5a, or 2" in out


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory, text_encoder: Path) -> tuple[Pipeline, Other]:
    folder = tmp_path_factory.mktemp("strange")
    model = write_other(folder / "model", text_encoder)
    build_bundle(folder / "model", folder / "bundle")
    return Pipeline.load(folder / "bundle", threads=1), model


@pytest.mark.parametrize("ras", [DENSE, RasConfig(0.5), RasConfig(0.2, dilation=0.5)], ids=["dense", "0.5", "0.2"])
def test_a_model_of_no_known_family_is_torchs(strange: tuple[Pipeline, Other], ras: RasConfig) -> None:
    """Positions, keys and values are each token's own wherever it lies; they are looked up by token on one side."""
    pipeline, model = strange
    size, prompt = (48, 24), "a red apple on a blue book"
    run = pipeline(prompt, size=size, steps=12, solver="euler", ras=ras)
    assert run.report.shift == pytest.approx(np.exp(0.5 + 0.5 * (144 - 64) / (256 - 64)))
    assert (run.report.tokens, run.report.pinned) == (144, 0)
    texts = [torch.from_numpy(pipeline.stages.text.features(text)) for text in (prompt, "")]
    assert len(texts[0]) != len(texts[1])  # so one of them is filled up
    computed = run.ages[:, 0] == 0
    assert computed.all() == (ras == DENSE)
    with torch.no_grad():
        noise = noise_of(0, (1, 2, 24, 48))
        expected, dense = (painted(model, noise, texts, run.report.times, which) for which in (computed, None))
    np.testing.assert_allclose(run.latents, expected, atol=1e-4, rtol=0)
    assert (np.abs(dense - expected).max() < 1e-3) == (ras == DENSE)


@pytest.mark.parametrize(
    "ras",
    [RasConfig(0.5, forecast_kv=0.5), RasConfig(0.3, guidance_every=2, error_budget=0.1)],
    ids=["keys", "guidance"],
)
def test_every_option_knows_it(strange: tuple[Pipeline, Other], ras: RasConfig) -> None:
    """Close to dense, for what a run computes less; and closer with more of it."""
    pipeline, _ = strange
    dense, much, little = (
        pipeline("a red apple", steps=12, ras=how).latents for how in (DENSE, ras, replace(ras, ratio=0.8))
    )
    assert 0 < np.abs(little - dense).max() < np.abs(much - dense).max() < 1


def test_its_shift_follows_the_size(strange: tuple[Pipeline, Other]) -> None:
    spec = strange[0].spec
    assert model_shift(spec, None) == pytest.approx(np.exp(0.5))  # 8 by 8 patches
    assert model_shift(spec, (64, 32)) == pytest.approx(np.e)
