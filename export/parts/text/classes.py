"""Classes in place of prompts: a tokenizer that makes one token of a class, a graph that looks up its embedding.

A prompt is the number of a class or one of its names, in letters of any case; an empty one is no class, which guidance
leads away from. What is no class is refused: the tokenizer has no token for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from flagdit.export import onnx_graph
from flagdit.export.describe import describe
from flagdit.export.errors import ExportError

GRAPH, TOKENIZER = "text_encoder.onnx", "tokenizer.json"
NONE = "[none]"
"""The token of no class, which begins every text: an empty one, too."""


class Lookup(nn.Module):
    """The row of a table that the one class of a text has."""

    def __init__(self, table: Tensor, rows: Tensor) -> None:
        """table (K + 1, A); rows (V,) int64: of every token, that of no class is the first."""
        super().__init__()
        self.register_buffer("table", table)
        self.register_buffer("rows", rows)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask (R, T) int64 -> (R, A)."""
        token = (input_ids * attention_mask).amax(1)  # the other one is 0
        row = nn.functional.embedding(token, self.get_buffer("rows")[:, None])[:, 0]
        return nn.functional.embedding(row, self.get_buffer("table"))


def check_classes(names: Sequence[str], classes: int) -> None:
    """Raise ExportError unless there are none, or those of every class."""
    if names and not classes:
        raise ExportError("names of classes are for models of classes, and this one takes texts; leave --classes out")
    if names and len(names) != classes:
        raise ExportError(f"--classes: there are {len(names)} lines, and the model has {classes} classes, one a line")


def export_classes(table: Tensor, names: Sequence[str], directory: Path) -> dict[str, Any]:
    """Write the tokenizer and the graph for a table (K + 1, A) of K classes, none last; the entry in `model.json`.

    names: of class k in line k, several with commas between. One that two classes have is left out.
    """
    from tokenizers import Tokenizer, models, normalizers, processors

    classes = len(table) - 1
    words = {NONE: classes, **{str(k): k for k in range(classes)}, **_named(names)}
    vocabulary = {word: token for token, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[unknown]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Lowercase()])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{NONE} $A", special_tokens=[(NONE, 0)])
    tokenizer.save(str(directory / TOKENIZER))
    model = _trace(Lookup(table.float().contiguous(), torch.tensor(list(words.values()))))
    ir.save(model, directory / GRAPH)
    graph = {"file": GRAPH, **describe(model)}
    return {"graph": graph, "tokenizer": TOKENIZER, "template": "{}", "max_tokens": 2, "padding": None}


def _named(names: Sequence[str]) -> dict[str, int]:
    """Classes by name: whole lines, and what is between commas, each where one class has it and no number is it."""
    said = [(name, k) for k, line in enumerate(names) for name in {line, *line.split(",")}]
    tidy = [(" ".join(name.split()).lower(), k) for name, k in said]
    counts = Counter(name for name, _ in set(tidy))
    return {name: k for name, k in sorted(tidy, key=lambda pair: pair[1]) if counts[name] == 1 and _is_name(name)}


def _is_name(name: str) -> bool:
    return bool(name) and not name.isdecimal() and name != NONE


def _trace(module: nn.Module) -> ir.Model:
    ids, mask = torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64)
    axes = onnx_graph.dynamic_axes(("R", "T"))
    names = ["input_ids", "attention_mask"]
    return onnx_graph.trace(module, (ids, mask), (axes, axes), inputs=names, outputs=["text"], opset=21)
