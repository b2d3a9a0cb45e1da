"""Values that are no numbers end a run with their place and its remedy, and never in a black picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY, random_flag_dit

from flagdit.engine import DENSE, NumberError, Pipeline, Preset
from flagdit.engine.bench import ExactPictures
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.calibrate import Calibration
from flagdit.engine.calibrate.fit import mean_psnr
from flagdit.engine.calibrate.painter import Painter
from flagdit.engine.finite import broken
from flagdit.export import ExportOptions, export_model

PROMPT = "a red apple"


def bundle_of(directory: Path, text_encoder: Path, name: str, factor: float) -> Path:
    """A bundle of the tiny model with one of its tensors times a factor: finite in fp32, what it computes is not."""
    model = random_flag_dit(TINY)
    with torch.no_grad():
        model.get_parameter(name).mul_(factor)
    options = ExportOptions(size=(32, 32), dtype="float32", text_encoder=text_encoder, max_text_tokens=12)
    export_model(model, directory / "model", options)
    build_bundle(directory / "model", directory / "bundle")
    return directory / "bundle"


@pytest.fixture(scope="module")
def overflows(tmp_path_factory: pytest.TempPathFactory, text_encoder: Path) -> Path:
    return bundle_of(tmp_path_factory.mktemp("overflows"), text_encoder, "final_layer.linear.weight", 3e38)


def test_the_first_broken_array_is_named_with_its_count() -> None:
    fine, infinite = np.ones(4, np.float32), np.array([1, np.inf, np.nan, -np.inf], np.float32)
    assert broken({"a": fine}) is None
    assert broken({"a": fine, "b": infinite, "c": infinite}) == "b has 3 of 4 values that are not finite"


def test_a_run_stops_at_the_step_that_overflows(overflows: Path) -> None:
    """... having shown no preview of it."""
    seen: list[int] = []
    with pytest.raises(NumberError) as error:
        Pipeline.load(overflows)(PROMPT, steps=3, on_step=lambda preview: seen.append(preview.index))
    message = str(error.value)
    assert message.startswith("after step 1 of 3 (time 0.333): the latent has")
    assert "denoise on onnxruntime-cpu in float32" in message and "--dtype float32" in message
    assert seen == []


def test_generate_writes_no_black_picture(flagdit, overflows: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = flagdit("generate", PROMPT, "--bundle", overflows, "--report", "r.json", "--map", "m.gif")
    assert code == 2 and "values that are not finite" in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_conditions_that_overflow_are_found_before_the_first_step(tmp_path: Path, text_encoder: Path) -> None:
    bundle = bundle_of(tmp_path, text_encoder, "t_embedder.mlp.2.weight", 3e38)
    with pytest.raises(NumberError, match=r"before the first step: modulation has .* condition on onnxruntime-cpu"):
        Pipeline.load(bundle)(PROMPT)


def test_calibration_puts_a_plan_that_overflows_behind_all_others(pipeline: Pipeline, overflows: Path) -> None:
    """One plan of many that are tried: it must not end the search."""
    painter = Painter.of(ExactPictures(pipeline, None, 4.0), pipeline, [PROMPT] * 2, seed=0)
    made = replace(painter, pipeline=Pipeline.load(overflows))(Preset(2, "ab2", DENSE))
    assert made.shape == painter.exact.shape and np.isnan(made).all()
    assert mean_psnr(made, painter.exact) == -100


def test_a_calibration_in_which_nothing_is_a_number_writes_no_preset(
    pipeline: Pipeline, overflows: Path, tmp_path: Path
) -> None:
    calibration = Calibration(pipeline, [PROMPT] * 4, None, guidance=4.0, folder=tmp_path)
    calibration.chosen = replace(calibration.chosen, pipeline=Pipeline.load(overflows))
    with pytest.raises(NumberError, match="every plan that was tried in float32 ended in values that are not finite"):
        calibration.plan(0.13, 0)
