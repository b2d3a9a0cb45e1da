"""int8: which engine is built and chosen, and what a run says of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY, random_flag_dit

from flagdit.cpp_ext import Cpu, has_amx, has_int8
from flagdit.engine import DENSE, BackendError, BuildError, Pipeline, Preset, cpu
from flagdit.engine.bench import Setting, measure
from flagdit.engine.bench.exact import EXACT, EXACT_SHIFT
from flagdit.engine.compiler import CPU_PRECISIONS, build_cpu
from flagdit.engine.compiler.build_cpu import file_of
from flagdit.engine.cpu import PRECISIONS
from flagdit.export import ExportOptions, export_model

fast_int8 = pytest.mark.skipif(not cpu.here().int8, reason="this CPU has no int8 dot products")

VNNI = "processor\t: 0\nflags\t\t: fpu vme avx512_vnni\n\nprocessor\t: 1\nflags\t\t: fpu vme avx512_vnni\n"
OLD = "processor\t: 0\nmodel name\t: avx512_vnni?\nflags\t\t: fpu vme avx2\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"


@fast_int8
def test_int8_is_chosen_where_it_is_fast(bundle8: Path, bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Pipeline.load(bundle8).precision == ("int8-bf16" if has_amx() else "int8")
    assert Pipeline.load(bundle8, precision="float32").precision == "float32"
    assert Pipeline.load(bundle_dir).precision == "float32"
    with pytest.raises(BackendError, match="has no int8 engine; make one with: flagdit export"):
        Pipeline.load(bundle_dir, precision="int8")
    with pytest.raises(BackendError, match="precision 'int4' is not one of int8-bf16, int8, float32"):
        Pipeline.load(bundle8, precision="int4")  # type: ignore[arg-type]
    monkeypatch.setattr(cpu, "here", lambda: Cpu(int8=True, tiles=False))
    assert Pipeline.load(bundle8).precision == "int8"
    with pytest.raises(BackendError, match="this CPU has no tiles of int8 and bf16"):
        Pipeline.load(bundle8, precision="int8-bf16")
    monkeypatch.setattr(cpu, "here", Cpu)
    assert Pipeline.load(bundle8).precision == "float32"
    with pytest.raises(BackendError, match="this CPU has no int8 dot products"):
        Pipeline.load(bundle8, precision="int8")


@fast_int8
def test_a_run_says_its_precision(bundle8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "here", lambda: Cpu(int8=True, tiles=True))  # the operators run anywhere, if slowly
    pictures = {}
    for precision in PRECISIONS:
        result = Pipeline.load(bundle8, threads=1, precision=precision)("a red apple", steps=4, ras=DENSE)
        assert result.report.precision == precision
        pictures[precision] = result.latents
    for precision in CPU_PRECISIONS:
        error = np.abs(pictures[precision] - pictures["float32"]).max()
        assert 0 < error < 0.2 * np.abs(pictures["float32"]).max(), precision


@fast_int8
def test_pictures_in_int8_are_measured_against_fp32(bundle8: Path) -> None:
    pipeline = Pipeline.load(bundle8, threads=1, precision="int8")
    assert pipeline.at("int8") is pipeline and pipeline.at("float32").precision == "float32"
    exact = Setting("the reference itself, in int8", "dense", Preset(EXACT, "ab2", DENSE, EXACT_SHIFT))
    *_, [row] = measure(pipeline, [exact], ["a red apple"])
    assert 20 < row.psnr < 90


@pytest.mark.parametrize(("cpuinfo", "expected"), [(VNNI, True), (OLD, False), (ARM, True), ("", False)])
def test_reads_what_the_cpu_can_do(cpuinfo: str, expected: bool) -> None:
    assert has_int8(cpuinfo) is expected


def test_build_adds_the_engine_by_itself(flagdit, model_dir8: Path, model_dir: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = flagdit("build", model_dir8, "-o", "b")
    assert code == 0, err
    code, out, _ = flagdit("inspect", "b")
    assert code == 0 and all(file_of(precision) in out for precision in CPU_PRECISIONS)
    code, _, err = flagdit("build", model_dir8, "-o", "plain", "--precision", "float32")
    assert code == 0, err
    assert not list(Path("plain").glob("denoise.int8*"))
    code, _, err = flagdit("build", model_dir8, "-o", "one", "--precision", "int8")
    assert code == 0, err
    assert [path.name for path in Path("one").glob("denoise.int8*")] == [file_of("int8")]
    code, _, err = flagdit("build", model_dir, "-o", "c", "--precision", "int8")
    assert code == 2 and "are stored as float32; for int8 export them so: flagdit export" in " ".join(err.split())
    code, _, err = flagdit("build", model_dir8, "-o", "c", "--target", "onnxruntime-cuda", "--precision", "int8")
    assert code == 2 and "onnxruntime-cuda does not compute in int8; allowed are float16" in " ".join(err.split())
    assert not Path("c").exists()


def test_a_model_without_such_products_is_refused(model_dir8: Path, bundle8: Path, tmp_path: Path) -> None:
    """A graph whose weights are not where its description says."""
    broken = shutil.copytree(model_dir8, tmp_path / "model")
    export_model(random_flag_dit(TINY), tmp_path / "other", ExportOptions(dtype="float32"))
    shutil.copy(tmp_path / "other" / "denoise.onnx", broken / "denoise.onnx")
    spec = Pipeline.load(bundle8, precision="float32").spec
    with pytest.raises(BuildError, match="no product with int8 weights in it"):
        build_cpu(broken, spec, tmp_path)
