"""The exported graphs against torch, in ONNX Runtime; the model directory; the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from reference import velocity
from safetensors.torch import load_file, save_file
from tiny import TINY, random_flag_dit

from flagdit.export import CheckpointError, ExportError, ExportOptions, FlagDiT, export_model, load_checkpoint
from flagdit.export.families.flag_dit.graphs import kv_names
from flagdit.export.families.flag_dit.infer import infer_config
from flagdit.export.parts.layers import rope_table
from flagdit.files import OutputError

Feeds = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def graphs(model_dir: Path) -> dict[str, ort.InferenceSession]:
    return {name: ort.InferenceSession(model_dir / f"{name}.onnx") for name in ("condition", "denoise")}


def run(session: ort.InferenceSession, feeds: Feeds) -> Feeds:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def condition(session: ort.InferenceSession, t: float, text: torch.Tensor, mask: torch.Tensor) -> Feeds:
    """What condition hands to denoise for a single time."""
    out = run(session, {"t": np.array([0.5, t], np.float32), "text": text.numpy(), "text_mask": mask.numpy()})
    return {k: v[1] if "modulation" in k else v for k, v in out.items()}


def slots(image: torch.Tensor, order: np.ndarray) -> Feeds:
    """Inputs of denoise for tokens in slot order: (C, H, W) images of both rows, all slots."""
    rows, channels, height, width = image.shape
    h, w = height // 4, width // 4
    patches = image.reshape(rows, channels, h, 4, w, 4).permute(2, 4, 0, 1, 3, 5).reshape(h, w, rows, -1)
    tokens = torch.cat([patches, torch.zeros(h, 1, rows, patches.shape[-1])], 1).flatten(0, 1)
    special = torch.zeros(h, w + 1, 1)
    special[:, -1] = 1
    cos, sin = (x.expand(-1, rows, -1) for x in rope_table(torch.arange(h * (w + 1)), TINY.head_dim, 1e4))
    feeds = {"tokens": tokens, "special": special.flatten(0, 1), "rope_cos": cos, "rope_sin": sin}
    return {k: np.ascontiguousarray(v.numpy()[order]) for k, v in feeds.items()}


@pytest.mark.parametrize("active", [6, 13, 28])
def test_head_and_tail_make_the_dense_step(
    graphs: dict[str, ort.InferenceSession], flag_dit: FlagDiT, active: int
) -> None:
    """Run all tokens, then the first `active` slots of a random order against the caches of the rest."""
    generator = torch.Generator().manual_seed(5)
    image = torch.randn(2, 3, 16, 24, generator=generator)
    text, mask = torch.randn(2, 5, 16, generator=generator), torch.ones(2, 5, dtype=torch.bool)
    mask[1, 2:] = False
    constant = condition(graphs["condition"], 0.3, text, mask)
    constant["attention_scale"] = np.array([TINY.head_dim**-0.5], np.float32)
    order = np.random.default_rng(active).permutation(28)
    feeds = slots(image, order)
    names = kv_names("tail", TINY.n_layers)
    empty = {name: np.empty((0, 2, 4, 12), np.float32) for name in names}
    dense = run(graphs["denoise"], {**feeds, **constant, **empty})
    tail = {name: dense[name.replace("tail", "head")][active:] for name in names}
    head = {name: array[:active] for name, array in feeds.items()}
    ras = run(graphs["denoise"], {**head, **constant, **tail})

    for name, array in ras.items():
        np.testing.assert_allclose(array, dense[name][:active], atol=1e-5, err_msg=name)
    expected = velocity(flag_dit.state_dict(), image, torch.full((2,), 0.3), text, mask, 4)
    expected = slots(expected, order)["tokens"]
    patches = feeds["special"][:, 0] == 0
    np.testing.assert_allclose(dense["velocity"][patches], expected[patches], atol=1e-5)


def test_denoise_moves_no_tokens_by_index(model_dir: Path) -> None:
    """The contract: no gather, no scatter, and no input of indices."""
    graph = onnx.load(model_dir / "denoise.onnx", load_external_data=False).graph
    assert not {node.op_type for node in graph.node} & {"Gather", "GatherND", "GatherElements", "ScatterND", "TopK"}
    assert all(i.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for i in graph.input)
    assert [node.op_type for node in graph.node].count("Attention") == 2 * TINY.n_layers


def test_weights_keep_their_official_names(model_dir: Path, flag_dit: FlagDiT) -> None:
    """Both graphs refer into one safetensors file, which loads strictly into torch."""
    state = flag_dit.state_dict()
    for name, tensor in load_file(model_dir / "weights.safetensors").items():
        torch.testing.assert_close(tensor, state[name], atol=0, rtol=0)
    loaded = load_checkpoint(model_dir)
    assert loaded.config == flag_dit.config
    graph = onnx.load(model_dir / "denoise.onnx", load_external_data=False).graph
    held = {t.name for t in graph.initializer if t.external_data}
    assert held and held <= state.keys()


def test_half_precision_weights_halve_the_file(tmp_path: Path, model_dir: Path, flag_dit: FlagDiT) -> None:
    export_model(flag_dit, tmp_path / "half", ExportOptions(dtype="float16"))
    sizes = [(d / "weights.safetensors").stat().st_size for d in (tmp_path / "half", model_dir)]
    assert sizes[0] < 0.6 * sizes[1]
    wide, narrow = (
        run(
            ort.InferenceSession(d / "condition.onnx"),
            {
                "t": np.array([0.3], np.float32),
                "text": np.ones((1, 3, 16), np.float32),
                "text_mask": np.ones((1, 3), bool),
            },
        )
        for d in (model_dir, tmp_path / "half")
    )
    for name, array in wide.items():
        np.testing.assert_allclose(narrow[name], array, atol=5e-3, err_msg=name)


def test_exported_files_name_no_place_of_the_machine(model_dir: Path) -> None:
    for path in model_dir.glob("*.onnx"):
        assert str(Path(torch.__file__).parent).encode() not in path.read_bytes()


def test_config_is_read_off_the_tensors() -> None:
    with torch.device("meta"):
        model = FlagDiT(TINY)
    inferred = infer_config({k: tuple(v.shape) for k, v in model.state_dict().items()}, patch_size=4)
    with torch.device("meta"):
        again = FlagDiT(inferred)
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    assert {k: v.shape for k, v in again.state_dict().items()} == shapes
    assert (inferred.patch_size, inferred.in_channels, inferred.learn_sigma) == (4, 3, False)


def bad_checkpoints(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    state = random_flag_dit(TINY).state_dict()
    (tmp_path / "a.pth").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("not tensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    save_file({k: v for k, v in state.items() if k != "eol_token"}, tmp_path / "short.safetensors")
    (tmp_path / "empty").mkdir()
    return {
        "absent": (tmp_path / "absent", "no such file or directory"),
        "empty": (tmp_path / "empty", "holds none of model.safetensors"),
        "pickle": (tmp_path / "a.pth", "are pickles, which can run code"),
        "text": (tmp_path / "text.safetensors", "not a readable safetensors file"),
        "other": (tmp_path / "other.safetensors", "no model that can be exported .tensors: w.; exported are Flag-DiT"),
        "short": (tmp_path / "short.safetensors", r"missing \['eol_token'\]"),
    }


@pytest.mark.parametrize("case", ["absent", "empty", "pickle", "text", "other", "short"])
def test_bad_checkpoints_are_refused(tmp_path: Path, case: str) -> None:
    path, message = bad_checkpoints(tmp_path)[case]
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path, patch_size=4)


def test_a_failed_export_leaves_nothing(tmp_path: Path, flag_dit: FlagDiT) -> None:
    with pytest.raises(ExportError, match=r"has no tokenizer\.json"):
        export_model(flag_dit, tmp_path / "model", ExportOptions(text_encoder=tmp_path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExportError, match="dtype 'int3' is not one of float32"):
        export_model(flag_dit, tmp_path / "model", ExportOptions(dtype="int3"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("kept")
    with pytest.raises(OutputError, match="exists already"):
        export_model(flag_dit, tmp_path / "model", ExportOptions())
    assert (tmp_path / "model" / "mine").read_text() == "kept"


def test_model_json_is_complete(model_dir: Path) -> None:
    spec = json.loads((model_dir / "model.json").read_text())
    (text,) = spec["texts"]
    assert text.pop("graph")["outputs"] == [{"name": "text", "dtype": "float32", "shape": ["R", "T", 16]}]
    assert text == {
        "tokenizer": "tokenizer.json",
        "template": "{}",
        "max_tokens": 12,
        "padding": None,
        "dtype": "float32",
    }
    assert spec["graphs"]["denoise"]["inputs"][0] == {"name": "tokens", "dtype": "float32", "shape": ["A", "R", 48]}
