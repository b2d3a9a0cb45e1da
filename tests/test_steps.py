"""The benchmark of single steps: what it runs, and what it says of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import steps

from flagdit.engine.bundle import ModelSpec
from flagdit.engine.session import GraphFile, open_session


def test_measures_a_bundle(bundle_dir: Path, tmp_path: Path) -> None:
    with steps.engine("S", str(bundle_dir), None) as (spec, ports, path):
        assert (spec.name, ports, path) == ("tiny", spec.graphs.denoise, bundle_dir / "denoise.onnx")
        session = open_session(GraphFile.beside(path), 1)
        results = [cell for side in (2, 4) for cell in steps.cells(session, spec, ports, side, 2, 5, repeats=2)]
    assert [(cell.patches, cell.active, cell.tokens) for cell in results[:4]] == [(4, a, 6) for a in (6, 4, 3, 2)]
    dense = results[4]
    assert (dense.tokens, dense.time_ratio, dense.flop_ratio, dense.efficiency) == (20, 1, 1, 1)
    half = results[5]
    assert half.active == 12 and 0.5 < half.flop_ratio < 0.65
    assert half.efficiency == pytest.approx(half.flop_ratio / half.time_ratio)
    steps.plot(results, tmp_path / "steps.png", "tiny")
    with Image.open(tmp_path / "steps.png") as image:
        assert image.size == (960, 540)


@pytest.mark.parametrize("family", ["lumina2", "sd3.5"])
def test_measures_steps_whose_text_rests(of_family, family: str) -> None:  # type: ignore[no-untyped-def]
    """Besides each that leaves patches out, in one stream or two; they cost less."""
    _, folder = of_family(family)
    spec = ModelSpec.model_validate_json((folder / "model.json").read_bytes())
    session = open_session(GraphFile.beside(folder / "denoise.onnx"), 1)
    dense, *sparse = steps.cells(session, spec, spec.graphs.denoise, 8, 2, 5, repeats=1)
    assert not dense.rests and [cell.rests for cell in sparse] == [False, True] * 3
    assert all(at_rest.flop_ratio < anew.flop_ratio for anew, at_rest in zip(sparse[::2], sparse[1::2], strict=True))
