"""Scales of activations: what they are found to be, that they are kept, and what is said of pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from flagdit.cpp_ext import Session
from flagdit.engine.bundle import Engine
from flagdit.engine.bundle.builder import read_model
from flagdit.engine.bundle.manifest import Manifest, ModelSpec
from flagdit.engine.commands import build as command
from flagdit.engine.compiler import BuiltEngine
from flagdit.engine.compiler.find_scales import STEPS, find_scales, load_wide, pipeline_of, run_of
from flagdit.engine.compiler.low import difference_of, psnr_of
from flagdit.engine.compiler.products import products_of
from flagdit.engine.compiler.quantised import by_input
from flagdit.engine.compiler.scales import SCALES, Scales, read_scales, write_scales
from flagdit.engine.errors import BuildError
from flagdit.engine.tensorrt import package

Array = np.ndarray[Any, np.dtype[Any]]
PROMPTS = ["a red apple", "a blue star on a green background"]


@pytest.fixture(scope="module")
def found(model_dir: Path) -> Scales:
    return find_scales(pipeline_of(model_dir, read_model(model_dir)), PROMPTS, report=lambda _: None)


class Recorder:
    """A session that keeps what its calls were given."""

    def __init__(self, session: Session) -> None:
        self.session, self.given = session, list[dict[str, Array]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def bind(self, tensors: Mapping[str, Array]) -> Any:
        inputs = [port.name for port in self.session.ports if not port.output]
        binding = self.session.bind(tensors)

        def run() -> None:
            self.given.append({name: np.array(tensors[name]) for name in inputs})
            binding.run()

        return SimpleNamespace(run=run)


def test_they_are_the_largest_magnitudes_of_all_calls(model_dir: Path, found: Scales, tmp_path: Path) -> None:
    pipeline = pipeline_of(model_dir, read_model(model_dir))
    recorder = Recorder(pipeline.stages.denoise)
    for number, prompt in enumerate(PROMPTS):
        run_of(pipeline, cast(Session, recorder), prompt, number)
    model = load_wide(model_dir / "denoise.onnx")
    inputs = list(by_input(products_of(model.graph)))
    model.graph.outputs.extend(inputs)
    shutil.copyfile(model_dir / "weights.safetensors", tmp_path / "weights.safetensors")
    ir.save(model, tmp_path / "all.onnx")
    session = ort.InferenceSession(tmp_path / "all.onnx")
    names = [x.name for x in inputs]
    calls = [session.run(names, given) for given in recorder.given]
    assert found.calls == len(calls) == STEPS * len(PROMPTS)
    assert set(found.largest) == set(names)
    for name, *values in zip(names, *calls, strict=True):
        wanted = np.max([np.abs(value).max((0, 1)) for value in values], 0)
        np.testing.assert_allclose(found.largest[name], wanted, rtol=1e-4, atol=1e-6)
        each = [np.abs(value).max(2).mean() for value in values]
        assert found.typical[name] == pytest.approx(np.mean(each), rel=1e-4)
    assert len({len(given["tokens"]) for given in recorder.given}) > 1  # dense steps, and such in regions


def test_they_are_kept_as_they_are(found: Scales, tmp_path: Path) -> None:
    write_scales(tmp_path / SCALES, found)
    assert read_scales(tmp_path / SCALES) == found
    (tmp_path / SCALES).write_text(json.dumps({"graph": "0" * 64}))
    with pytest.raises(BuildError, match=r"scales\.json: prompts: Field required; remove it, and they are found anew$"):
        read_scales(tmp_path / SCALES)


def test_without_prompts_or_encoders_nothing_is_found(model_dir: Path) -> None:
    spec = read_model(model_dir)
    with pytest.raises(BuildError, match=r"^tiny has no examples to find scales on; give some with --prompts FILE$"):
        find_scales(pipeline_of(model_dir, spec), report=lambda _: None)
    with pytest.raises(BuildError, match=r"^tiny has no text encoder, so nothing can be painted to find scales on"):
        find_scales(pipeline_of(model_dir, spec.model_copy(update={"texts": ()})), PROMPTS, report=lambda _: None)


def test_pictures_are_compared_with_fp32(model_dir: Path, found: Scales) -> None:
    pipeline = pipeline_of(model_dir, read_model(model_dir))
    seen = difference_of(pipeline, "int8", found, report=lambda _: None)
    larger = {"largest": {n: tuple(8 * x for x in v) for n, v in found.largest.items()}}
    coarse = found.model_copy(update={**larger, "typical": {n: 8 * x for n, x in found.typical.items()}})
    worse = difference_of(pipeline, "int8", coarse, report=lambda _: None)
    assert seen is not None and worse is not None
    assert seen.pictures == len(PROMPTS)
    assert 15 < worse.psnr < seen.psnr < 100


def test_psnr_of_pictures_and_of_latents() -> None:
    wanted = np.array([[-1.0, 0.0, 0.5, 1.0]], np.float32)
    off = wanted + np.float32(0.02) * np.array([1, -1, 1, -1], np.float32)
    assert psnr_of(off, wanted, bounded=False) == pytest.approx(10 * np.log10(4 / 0.02**2), abs=1e-4)
    assert psnr_of(8 * off, 8 * wanted, bounded=False) == pytest.approx(10 * np.log10(4 / 0.02**2), abs=1e-4)
    assert psnr_of(wanted * 3, wanted * 2, bounded=True) > 20  # what is beyond the ends of a picture does not count
    assert psnr_of(wanted, wanted, bounded=True) == 100


def fake_builder(_: Path, spec: ModelSpec, output: Path, **_options: Any) -> list[BuiltEngine]:
    """Engines that hold nothing."""
    engines: list[BuiltEngine] = []
    for graph, precision in (("condition", "float16"), ("denoise", "int8")):
        (output / f"{graph}.engine").write_bytes(b"engine")
        described = getattr(spec.graphs, graph)
        engine = Engine(
            graph=graph,
            file=f"{graph}.engine",
            target="tensorrt-rtx",
            version="1",
            architectures=(89,),
            platform="any",
            precision=precision,
            profiles=(),
            inputs=described.inputs,
            outputs=described.outputs,
            build_seconds=0.0,
        )
        engines.append(BuiltEngine(engine, None))
    return engines


def test_a_bundle_keeps_scales_and_says_the_difference(
    flagdit: Any, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(package.MODULES, "tensorrt-rtx", ("json",))  # whether it is installed does not matter here
    monkeypatch.setitem(command.BUILDERS, command.Target.tensorrt_rtx, fake_builder)
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    options = ("--target", "tensorrt-rtx", "--precision", "int8")
    code, _, err = flagdit("build", model_dir, "-o", "none", *options)
    assert code == 2 and "tiny has no examples to find scales on" in err
    assert not Path("none").exists()
    code, _, err = flagdit("build", model_dir, "-o", "a", *options, "--prompts", "prompts.txt")
    assert code == 0, err
    assert f"found in {STEPS * len(PROMPTS)} calls of denoise" in err
    manifest = Manifest.model_validate_json(Path("a/manifest.json").read_bytes())
    assert SCALES in manifest.files
    condition, denoise = manifest.engines
    assert condition.psnr is None and denoise.psnr is not None and f"int8: {denoise.psnr:.1f} dB to fp32" in err
    code, _, err = flagdit("build", "a", "-o", "b", *options)
    assert code == 0 and "as they were found before" in err, err
    assert Path("b", SCALES).read_bytes() == Path("a", SCALES).read_bytes()
    code, _, err = flagdit("build", model_dir, "-o", "c", "--target", "tensorrt-rtx", "--prompts", "prompts.txt")
    assert code == 2 and "--prompts has no part in float16" in " ".join(err.split())
