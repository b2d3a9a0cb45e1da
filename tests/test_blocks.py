"""Text encoders in blocks of 8 and 4 bits, against NumPy's reading of what is stored and the transformers library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
import transformers as hf
from encoders import SIZES, VOCABULARY
from safetensors.torch import load_file

from flagdit.engine.session import GraphFile, open_session
from flagdit.export.blocks import Blocks, best_scale
from flagdit.export.parts.text import large, small
from flagdit.export.parts.text.encoder import Encoder
from flagdit.export.parts.text.large import export_large
from flagdit.export.parts.text.precision import LARGE, precision_of
from flagdit.export.parts.text.source import read_config

WIDE = {**SIZES, "hidden_size": 32, "intermediate_size": 64}
GROUPED = {**WIDE, "num_key_value_heads": 2, "head_dim": 8}
CLIP = {**WIDE, "projection_dim": 32, "max_position_embeddings": 77}
T5 = {"vocab_size": len(VOCABULARY), "d_model": 64, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
MODELS: dict[str, tuple[Any, Encoder]] = {
    "llama": (lambda: hf.LlamaModel(hf.LlamaConfig(**WIDE)), Encoder("text", 32)),
    "gemma2": (lambda: hf.Gemma2Model(hf.Gemma2Config(**GROUPED)), Encoder("text", 32, layer=-2)),
    "qwen3": (lambda: hf.Qwen3Model(hf.Qwen3Config(**GROUPED)), Encoder("text", 32, layer=-2)),
    "clip": (
        lambda: hf.CLIPTextModelWithProjection(hf.CLIPTextConfig(**CLIP)),
        Encoder("clip_l", 32, pooled=32, layer=-2, fixed=True),
    ),
    "t5": (lambda: hf.T5EncoderModel(hf.T5Config(**T5, feed_forward_proj="gated-gelu")), Encoder("t5", 64, fixed=True)),
}


def widened(codes: npt.NDArray[Any], scale: npt.NDArray[np.float32], outputs: int) -> npt.NDArray[np.float64]:
    """What is stored, by the words of docs/models.md: a loop over bytes."""
    if codes.dtype == np.int8:
        return codes.astype(np.float64) * np.repeat(scale, 32, axis=1)
    rows = []
    for row in range(outputs):
        numbers: list[float] = []
        for block, factor in zip(codes[row], scale[row], strict=True):
            for byte in block:
                numbers += [(int(byte) % 16 - 8) * float(factor), (int(byte) // 16 - 8) * float(factor)]
        rows.append(numbers)
    return np.array(rows)


def stored_model(kind: str, weights: Path) -> tuple[Any, int]:
    """The library's model with the numbers that are stored, and how many matrices are in blocks."""
    model = MODELS[kind][0]().eval()
    stored, found = load_file(weights), 0
    by_tail = dict(model.named_parameters())
    for name, tensor in stored.items():
        if name.endswith(".scale") or name not in by_tail:
            continue
        if (scale := stored.get(f"{name}.scale")) is None:
            by_tail[name].data = tensor.float()
            continue
        wide = widened(tensor.numpy(), scale.numpy(), len(tensor))
        if tensor.dtype == torch.uint8 and wide.shape[1] != by_tail[name].shape[1]:
            wide = wide.reshape(len(wide), 2, -1).sum(1)  # high and low halves
        by_tail[name].data, found = torch.from_numpy(wide).float(), found + 1
    return model, found


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("llama", "int4"), ("gemma2", "int8"), ("qwen3", "int4"), ("clip", "int8"), ("t5", "int4"), ("t5", "int8")],
)
def test_features_are_those_of_the_stored_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, precision: str
) -> None:
    """For texts of several lengths, in the core's sessions; the file says all of it."""
    monkeypatch.setattr(large, "LEAST_TABLE", 1)
    torch.manual_seed(0)
    source, wanted = MODELS[kind][0]().eval(), MODELS[kind][1]
    source.save_pretrained(tmp_path / "source")
    entry = export_large(
        tmp_path / "source", read_config(tmp_path / "source"), tmp_path, wanted, precision, stem="text"
    )
    session = open_session(GraphFile.beside(tmp_path / entry["file"]), threads=1)
    model, found = stored_model(kind, tmp_path / entry["weights"])
    assert found >= 12
    for rows, length in ((1, 77), (2, 77)) if kind == "clip" else ((1, 1), (2, 9)):
        ids = np.random.default_rng(length).integers(3, 12, (rows, length))
        ids[:, -1] = 2
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        made = session.run({port.name: feeds[port.name] for port in session.ports if not port.output})
        with torch.no_grad():
            out = model(input_ids=torch.from_numpy(ids), output_hidden_states=True)
        expected = [out.hidden_states[wanted.layer], *([out.text_embeds] if wanted.pooled else [])]
        for ours, theirs in zip((made[name] for name in wanted.outputs), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs.numpy()).max(), rtol=0)
    kinds = [node.op_type for node in onnx.load(tmp_path / entry["file"], load_external_data=False).graph.node]
    assert "MatMulNBits" in kinds


def test_a_scale_is_the_best_of_many() -> None:
    """Less error than the largest magnitude's, and near the best of a fine search over scales of either sign."""
    torch.manual_seed(1)
    blocks = torch.randn(4, 8, 32)
    for bits, low, high in ((8, -128, 119), (4, -8, 7)):
        top = blocks.abs().amax(-1)

        def error(scale: torch.Tensor) -> torch.Tensor:
            codes = (blocks / scale[..., None]).round().clamp(low, high)  # noqa: B023
            return ((codes * scale[..., None] - blocks) ** 2).sum(-1)

        found = error(best_scale(blocks, bits))
        fine = torch.stack([error(sign * top / (high * f)) for sign in (1, -1) for f in torch.linspace(0.7, 1.4, 400)])
        assert found.sum() < 0.85 * error(top / high).sum()
        assert found.sum() < 1.12 * fine.amin(0).sum()


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_do_not_depend_on_how_a_matrix_lies_in_memory(bits: int) -> None:
    matrix = torch.randn(64, 96, generator=torch.Generator().manual_seed(1))
    for found, expected in zip(Blocks(bits).of(matrix.T.contiguous().T), Blocks(bits).of(matrix), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_widened_is_what_was_narrowed(bits: int) -> None:
    matrix = torch.randn(5, 96)
    matrix[2, 32:64] = 0
    for how in (Blocks(bits), Blocks(8, table=True)):
        codes, scale = how.of(matrix)
        assert tuple(codes.shape) == how.codes_shape((5, 96)) and tuple(scale.shape) == how.scale_shape((5, 96))
        wide = how.widen(codes, scale)
        assert (wide[2, 32:64] == 0).all()
        assert (wide - matrix).abs().max() < matrix.abs().max() / (120 if how.bits == 8 else 7)


@pytest.mark.parametrize("precision", ["float16", "int8", "int4"])
def test_a_small_encoder_is_stored_narrow(tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence model in one ONNX file: by its own numbers in torch."""
    monkeypatch.setattr(small, "LEAST", 1)
    torch.manual_seed(0)
    sizes = {**WIDE, "vocab_size": len(VOCABULARY), "max_position_embeddings": 16}
    model = hf.BertModel(hf.BertConfig(**sizes), add_pooling_layer=False).eval()
    graph = small._trace(model)
    small.store_as(graph, precision)
    onnx_file = tmp_path / "text.onnx"
    small.ir.save(graph, onnx_file)
    for part in model.modules():
        if not isinstance(part, torch.nn.Linear | torch.nn.Embedding) or part.weight.shape[1] % 32:
            continue
        if precision == "float16":
            part.weight.data = part.weight.data.half().float()
            continue
        table = isinstance(part, torch.nn.Embedding)
        how = Blocks(8 if table or precision == "int8" else 4, table)
        part.weight.data = how.widen(*how.of(part.weight.data))
    ids = torch.randint(3, 12, (2, 7))
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.numpy()
    session = ort.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    made = session.run(None, {"input_ids": ids.numpy(), "attention_mask": np.ones_like(ids.numpy())})[0]
    np.testing.assert_allclose(made, expected, atol=2e-5 * np.abs(expected).max(), rtol=0)


def test_an_encoder_of_halves_is_loaded_in_fp32(tmp_path: Path) -> None:
    sizes = {**WIDE, "vocab_size": len(VOCABULARY), "max_position_embeddings": 16}
    hf.BertModel(hf.BertConfig(**sizes)).half().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in small.load_encoder(tmp_path).parameters()} == {torch.float32}


def test_large_ones_are_int8_where_nobody_asks() -> None:
    assert precision_of("auto", LARGE, "float16") == "int8"
    assert precision_of("auto", LARGE - 1, "float16") == "float16"
    assert precision_of("int4", 1, "float16") == "int4" and precision_of("float32", LARGE, "float16") == "float32"
