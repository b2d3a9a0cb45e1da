"""A Hugging Face text encoder -> `text_encoder.onnx` and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor, nn

from flagdit.export import onnx_graph
from flagdit.export.blocks import BLOCK, Blocks
from flagdit.export.errors import ExportError
from flagdit.export.parts.text.narrow import put_blocks
from flagdit.export.parts.text.precision import BITS
from flagdit.export.parts.text.tokenizer import save_tokenizer

TEXT_GRAPH = "text_encoder.onnx"
OPSET = 21  # with DequantizeLinear in blocks
LEAST = 1 << 16
"""Bytes of a matrix that is worth to be stored in less than fp32."""


class LastHiddenState(nn.Module):
    """Token features of an encoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask (R, T) int64 -> features (R, T, Y)."""
        out: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return out


def export_text_encoder(
    source: Path, directory: Path, max_tokens: int, *, precision: str = "float32", end: bool = False
) -> dict[str, Any]:
    """Write the encoder and `tokenizer.json` to `directory`; returns what `model.json` says of them.

    precision: that large matrices are stored in, see precision.py.
    """
    encoder = load_encoder(source)
    try_longest(encoder, source, max_tokens)
    model = _trace(encoder)
    store_as(model, precision)
    ir.save(model, directory / TEXT_GRAPH)
    save_tokenizer(source, directory / "tokenizer.json", end=end)
    return {"tokenizer": "tokenizer.json", "template": "{}", "max_tokens": max_tokens, "padding": None}


def load_encoder(source: Path) -> Any:
    """The encoder in `source` in fp32, whatever it is stored in, and never from a hub.

    Raises ExportError if it cannot be loaded.
    """
    from transformers import AutoModel  # seconds to import, and only needed here
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        return AutoModel.from_pretrained(source, local_files_only=True, use_safetensors=True).eval().float()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(f"{source}: the text encoder cannot be loaded ({reason}); fetch it again") from None


def try_longest(encoder: Any, source: Path, max_tokens: int) -> None:
    """Run the encoder on the longest prompt that is allowed. Raises ExportError unless that makes finite features.

    A configuration does not always say for how many tokens there are positions.
    """
    token = 0 if getattr(encoder.config, "pad_token_id", None) == 1 else 1  # padding may have no position of its own
    ids = torch.full((1, max_tokens), token, dtype=torch.int64)
    try:
        with torch.no_grad():
            features = LastHiddenState(encoder)(ids, torch.ones_like(ids))
    except (RuntimeError, IndexError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(
            f"{source}: the text encoder does not take {max_tokens} tokens ({reason}); try fewer --max-text-tokens"
        ) from None
    if not torch.isfinite(features).all():
        raise ExportError(f"{source}: the text encoder makes features that are no numbers; fetch it again")


def _trace(encoder: nn.Module) -> ir.Model:
    ids = torch.ones(2, 5, dtype=torch.int64)
    axes = onnx_graph.dynamic_axes(("R", "T"))
    names = ["input_ids", "attention_mask"]
    return onnx_graph.trace(
        LastHiddenState(encoder), (ids, torch.ones_like(ids)), (axes, axes), inputs=names, outputs=["text"], opset=OPSET
    )


def store_as(model: ir.Model, precision: str) -> None:
    """Store large matrices and tables in this precision; all else stays in fp32."""
    graph = model.graph
    for name in list(graph.initializers) if precision != "float32" else ():
        value = graph.initializers[name]
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2 or tensor.nbytes < LEAST:
            continue
        users, shape = {node.op_type for node, _ in value.uses()}, tensor.shape.numpy()
        if precision not in BITS:
            _cast(graph, value, tensor, precision)
        elif users == {"MatMul"} and shape[0] % BLOCK == 0:
            _put(model, value, Blocks(BITS[precision]), tensor.numpy().T)
        elif users == {"Gather"} and shape[1] % BLOCK == 0:
            _put(model, value, Blocks(8, table=True), tensor.numpy())


def _put(model: ir.Model, value: ir.Value, how: Blocks, matrix: npt.NDArray[np.float32]) -> None:
    codes, scale = how.of(torch.from_numpy(np.array(matrix)))
    named = (codes, f"{value.name}.blocks"), (scale, f"{value.name}.scale")
    put_blocks(model, value, how, *(ir.tensor(array.numpy(), name=name) for array, name in named))


def _cast(graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol, precision: str) -> None:
    kind = ir.DataType.FLOAT16 if precision == "float16" else ir.DataType.BFLOAT16
    name = f"{value.name}.{precision}"
    narrow = ir.Value(name=name, const_value=ir.tensor(tensor.numpy().astype(kind.numpy()), name=name))
    graph.register_initializer(narrow)
    node = ir.Node("", "Cast", [narrow], [ir.AttrInt64("to", ir.DataType.FLOAT.value)], num_outputs=1)
    node.outputs[0].name = f"{value.name}.wide"
    graph.insert_before(graph[0], node)
    ir.convenience.replace_all_uses_with(value, node.outputs[0])
    graph.initializers.pop(value.name or "")
