"""Launches of a layer, and the kernels of attention, in ONNX Runtime's CUDA provider over the stand-in for CUDA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from diffused import FAMILIES, saved
from test_encoders import random_vae
from tiny import random_flag_dit

from flagdit.engine.compiler.cuda_graph import to_cuda
from flagdit.engine.compiler.precision import to_half
from flagdit.export import ExportOptions, FlagDiTConfig, export_model, open_checkpoint

FOLDER = os.environ.get("FLAGDIT_STAND_IN")
SCRIPT = Path(__file__).parent / "stand_in" / "launches.py"
BUDGET = 36
"""Launches a layer. The graph in half precision that TensorRT gets has more than 60."""
LAYERS = (2, 6)

pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs the stand-in for CUDA: make stand-in")


def asked(graph: Path, *sizes: int | str) -> dict[str, Any]:
    assert FOLDER is not None
    runtime = next(Path(FOLDER, "onnxruntime", "capi").glob("libonnxruntime.so*"))
    more = {"LD_LIBRARY_PATH": f"{FOLDER}/lib", "PYTHONPATH": FOLDER, "STAND_IN_LOG": str(graph.with_suffix(".log"))}
    graph.with_suffix(".log").unlink(missing_ok=True)  # that of a call before: lines are added to it
    command = [sys.executable, str(SCRIPT), str(runtime), str(graph), *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **more})
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def a_layer(few: dict[str, Any], many: dict[str, Any]) -> float:
    """What a layer more adds."""
    return (many["launches"] - few["launches"]) / (LAYERS[1] - LAYERS[0])


def count(told: dict[str, Any], word: str) -> int:
    return sum(n for kernel, n in told["kernels"].items() if word in kernel)


def flash(told: dict[str, Any]) -> int:
    """Attentions that are Flash, each of which may have a kernel that joins its parts besides."""
    return count(told, "flash_fwd_kernel") + count(told, "flash_fwd_splitkv_kernel")


@pytest.fixture(scope="module", params=[4, 2], ids="kv_heads={}".format)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of few layers and of more, whose heads are of 32: a multiple of 8, as Flash asks."""
    made = []
    for layers in LAYERS:
        config = FlagDiTConfig(
            dim=128, n_layers=layers, n_heads=4, n_kv_heads=request.param, patch_size=4, in_channels=3,
            cap_feat_dim=16, multiple_of=32,
        )  # fmt: skip
        made.append(tmp_path_factory.mktemp("launches") / "model")
        export_model(random_flag_dit(config), made[-1], ExportOptions(dtype="float16", size=(128, 128)))
    return made


def written(directory: Path, rewrite: Any, precision: str) -> Path:
    model, path = ir.load(directory / "denoise.onnx"), directory / f"{rewrite.__name__}-{precision}.onnx"
    rewrite(model, precision)
    ir.save(model, path)
    return path


@pytest.mark.parametrize(
    ("precision", "sizes"),
    [
        ("float16", (288, 768, 2, 32)),
        ("float16", (1056, 0, 2, 30)),
        ("float16", (288, 768, 1, 32)),
        ("bfloat16", (288, 768, 2, 32)),
    ],
)
def test_a_layer_takes_few_launches(models: list[Path], precision: str, sizes: tuple[int, ...]) -> None:
    few, many = (asked(written(model, to_cuda, precision), *sizes) for model in models)
    assert a_layer(few, many) <= BUDGET
    for told, layers in zip((few, many), LAYERS, strict=True):
        assert flash(told) == 2 * layers
        assert count(told, "attention_kernel") == count(told, "oftmax") == told["pinned copies"] == 0


def test_the_graph_of_before_is_over_the_budget(models: list[Path]) -> None:
    few, many = (asked(written(model, to_half, "float16"), 288, 768, 2, 32) for model in models)
    assert a_layer(few, many) > BUDGET
    assert flash(many) < 2 * LAYERS[1]


WIDE: dict[str, tuple[dict[str, Any], str, int]] = {
    "next-dit": ({"hidden_size": 128}, "num_layers", 32),
    "lumina2": ({"hidden_size": 128, "axes_dim_rope": (8, 12, 12)}, "num_layers", 36),
    "z-image": ({"dim": 128, "axes_dims": [8, 12, 12]}, "n_layers", 35),
    "sd3.5": (
        {"attention_head_dim": 32, "num_attention_heads": 4, "caption_projection_dim": 128}, "num_layers", 49
    ),
}  # fmt: skip
"""Of a family: what makes its heads 32 wide, what its number of layers is called, and the most launches of one."""


@pytest.mark.parametrize("family", WIDE)
def test_a_layer_of_every_family_takes_few_launches(family: str, tmp_path: Path) -> None:
    """All attention is Flash, with a text in the stream and with two streams, too; half of the launches are left."""
    made, (shape, number, budget) = [], WIDE[family]
    for layers in LAYERS:
        _, source = saved(family, tmp_path / f"source{layers}", **shape, **{number: layers})
        options = ExportOptions(name=family, dtype="float16", size=(16, 16))
        export_model(open_checkpoint(source), tmp_path / f"model{layers}", options)
        made.append(tmp_path / f"model{layers}")
    sizes = 288, 768, 2, 32
    before = [asked(written(model, to_half, "float16"), *sizes) for model in made]
    for precision in ("float16", "bfloat16"):
        after = [asked(written(model, to_cuda, precision), *sizes) for model in made]
        assert a_layer(*after) <= budget < a_layer(*before)
        for model, told in zip(made, after, strict=True):
            attentions = [node for node in ir.load(model / "denoise.onnx").graph if node.op_type == "Attention"]
            assert flash(told) == len(attentions)
            assert count(told, "attention_kernel") == count(told, "oftmax") == told["pinned copies"] == 0
        if family != "next-dit":  # whose text has no tokens: nothing is launched for none, which is refused
            rested = [asked(written(model, to_cuda, precision), *sizes, "rests") for model in made]
            assert a_layer(*rested) < a_layer(*after) and flash(rested[0]) == flash(after[0])


def test_the_provider_takes_the_graphs_of_every_family(tmp_path: Path) -> None:
    """As they are exported, with an autoencoder: no part of one would compute on the CPU. None was computed."""
    assert FOLDER is not None
    runtime = next(Path(FOLDER, "onnxruntime", "capi").glob("libonnxruntime.so*"))
    made = []
    random_vae(4, tmp_path / "vae")
    for name in FAMILIES:
        _, source = saved(name, tmp_path / name / "source")
        options = ExportOptions(name=name, dtype="float32", size=(16, 16), vae=tmp_path / "vae")
        export_model(open_checkpoint(source), tmp_path / name / name, options)
        made.append(str(tmp_path / name / name))
    more = {"LD_LIBRARY_PATH": f"{FOLDER}/lib", "PYTHONPATH": FOLDER, "STAND_IN_LOG": str(tmp_path / "log")}
    command = [sys.executable, str(SCRIPT.with_name("opened.py")), str(runtime), *made]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **more})
    assert done.returncode == 0, done.stderr
    assert not done.stdout
