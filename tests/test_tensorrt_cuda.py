"""Engines through NVIDIA's Python bindings, whole: over the emulator of CUDA, with a fake of the bindings."""

from __future__ import annotations

import faulthandler
import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import EMULATED
from fake_engine import arrays_of, bundle_of, installed, load, opened, refused

from flagdit.engine import DENSE, Pipeline, RasConfig, cli
from flagdit.engine.request import Request
from flagdit.engine.run import Run
from flagdit.engine.tensorrt import cache as kept
from flagdit.engine.tensorrt.package import MODULES, Target

pytest_plugins = ["fake_fixtures"]
pytestmark = pytest.mark.skipif(not EMULATED, reason="needs the emulator: make emulator")

PROMPTS = ["a red apple", "a green star on a blue background"]
RUNS: dict[str, dict[str, Any]] = {
    "dense": {"ras": DENSE},
    "second order": {"ras": RasConfig(ratio=0.3, warmup=2, forecast=2), "solver": "ab2"},
    "keys": {"ras": RasConfig(ratio=0.6, ratio_end=0.3, warmup=3, forecast_kv=0.5)},
    "branches apart": {"ras": RasConfig(ratio=0.4, warmup=2, guidance_every=3, guidance_warmup=2)},
    "budget": {"ras": RasConfig(ratio=0.2, warmup=3, error_budget=0.02)},
}


@pytest.fixture(scope="module")
def cpu() -> Pipeline:
    return Pipeline.load("demo", device="cpu", precision="float32", threads=1)


def request_of(run: dict[str, Any], samples: int = 1) -> Request:
    asked = {"solver": "euler", **run}
    return Request(PROMPTS[:samples], list(range(samples)), 10, (32, 32), 4.0, 2.0, asked["ras"], asked["solver"])


CASES = [("tensorrt-rtx", name, 1) for name in RUNS] + [("tensorrt-rtx", "second order", 2), ("tensorrt", "keys", 2)]


@pytest.mark.parametrize(("target", "name", "samples"), CASES, indirect=["target"])
def test_a_run_is_that_of_the_cpu(
    cpu: Pipeline, bundles: dict[Target, Path], target: Target, trt: Any, name: str, samples: int
) -> None:
    request = request_of(RUNS[name], samples)
    result, expected = Run(load(bundles, target).stages, request).finish(), Run(cpu.stages, request).finish()
    assert [s.active for s in result.report.steps] == [s.active for s in expected.report.steps]
    np.testing.assert_array_equal(result.ages, expected.ages)
    np.testing.assert_allclose(result.latents, expected.latents, 2e-4, 2e-4)
    assert result.report.backend == target
    assert result.report.gpu is not None and result.report.gpu["captured_steps"] > 0
    gc.collect()
    assert trt.broken == []


def test_a_package_that_is_not_there(
    bundles: dict[Target, Path], target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODULES, target, ("no_such_module",))
    extra = "rtx" if target == "tensorrt-rtx" else "tensorrt"
    refused(lambda: load(bundles, target), f"next: pip install 'flagdit[{extra}]'")


def test_bundles_without_an_engine_for_this_gpu(target: Target, trt: Any, tmp_path: Path) -> None:
    sm = " --sm 90" if target == "tensorrt-rtx" else ""
    again = f"flagdit build MODEL -o BUNDLE --target {target}{sm}"
    demo = {target: Path("demo")}
    refused(lambda: load(demo, target), f"has no engine for {target}", again)
    others = {target: bundle_of("demo", tmp_path / "others", target, architectures=(86, 120))}
    refused(lambda: load(others, target), "are for other GPUs than this an emulator (compute capability 9.0)", again)


def test_engines_that_cannot_be_captured_run_all_the_same(
    cpu: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those that were built without REQUIRE_USER_ALLOCATION, as TensorRT-RTX says when it is asked."""
    installed(monkeypatch, "tensorrt-rtx")
    plain: dict[Target, Path] = {
        "tensorrt-rtx": bundle_of("demo", tmp_path / "plain", "tensorrt-rtx", user_allocation=False)
    }
    request = request_of(RUNS["keys"])
    result, expected = Run(load(plain, "tensorrt-rtx").stages, request).finish(), Run(cpu.stages, request).finish()
    np.testing.assert_allclose(result.latents, expected.latents, 2e-4, 2e-4)
    assert result.report.gpu is not None and result.report.gpu["captured_steps"] == 0


def test_what_was_compiled_is_kept(
    bundles: dict[Target, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the user's cache; one that is broken, or of another GPU, is made anew."""

    def compiled() -> int:
        trt = installed(monkeypatch, "tensorrt-rtx", cache=tmp_path)
        own = opened(bundles, "tensorrt-rtx")
        for active in (8, 4):
            own.bind(arrays_of(own, active)).run()
        del own
        gc.collect()
        return len(trt.compiled)

    first = compiled()
    (file,) = (tmp_path / "flagdit" / "tensorrt-rtx").iterdir()
    assert first == 2 and compiled() == 0
    whole = file.read_bytes()
    for broken in (whole[:-1], whole[:-1] + b"?", b"", b"no cache"):
        file.write_bytes(broken)
        assert compiled() == first
        assert file.read_bytes() == whole
    kept.write(file, b"whole, and no runtime cache")
    assert compiled() == first and file.read_bytes() == whole
    file.chmod(0o666)  # anybody may have written it
    assert compiled() == first


def test_threads_share_a_pipeline(cpu: Pipeline, bundles: dict[Target, Path], target: Target, trt: Any) -> None:
    """What waits with the interpreter's lock for one that needs it would wait for ever, and every thread with it."""
    pipeline, request = load(bundles, target), request_of(RUNS["keys"])
    faulthandler.dump_traceback_later(120, exit=True)
    with ThreadPoolExecutor(3) as pool:
        results = [pool.submit(Run(pipeline.stages, request).finish) for _ in range(3)]
    faulthandler.cancel_dump_traceback_later()
    expected = Run(cpu.stages, request).finish().latents
    for result in results:
        np.testing.assert_allclose(result.result().latents, expected, 2e-4, 2e-4)


def test_the_command_line_paints_with_it(
    bundles: dict[Target, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(monkeypatch, "tensorrt-rtx")
    out, bundle = tmp_path / "out.png", str(bundles["tensorrt-rtx"])
    how = ["--bundle", bundle, "--size", "32x32", "--preset", "fast", "--device", "cuda", "--backend", "tensorrt-rtx"]
    for arguments in (["generate", "a red apple", *how, "-o", str(out)], ["inspect", str(out)], ["inspect", bundle]):
        monkeypatch.setattr("sys.argv", ["flagdit", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code in (0, None)
    said = capsys.readouterr().out
    assert "float32 by tensorrt-rtx" in said
    assert "not used" not in said and [line.split()[-1] for line in said.splitlines() if ".engine" in line] == ["yes"]
