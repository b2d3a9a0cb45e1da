"""What is lost if the text's stream of an MMDiT rests where the picture's regions do: its keys and values kept.

    python examples/emoji/train.py --family mmdit --run runs/mmdit ...     # examples/emoji/README.md
    flagdit export runs/mmdit -o mmdit-model --dtype float32 ... && flagdit build mmdit-model -o mmdit
    python benchmarks/text_stream.py --checkpoint runs/mmdit --model mmdit-model --bundle mmdit --texts TEXTS

In every step the graph of an MMDiT computes all text tokens anew, as the published RAS does. Here `denoise` runs in
torch, by the export's own module, in two ways: so, and with the text computed in dense steps alone. Region-adaptive
steps then attend to the keys and values that the text had in the last dense step, and neither read its weights nor
multiply its rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from flagdit.cpp_ext import Port, Session, step_flops
from flagdit.engine import Pipeline
from flagdit.engine.bench import ExactPictures, settings
from flagdit.engine.bench.measure import psnr
from flagdit.engine.bench.settings import STEPS
from flagdit.engine.commands.common import check_writable
from flagdit.engine.cost import sizes_of
from flagdit.engine.layout import FloatArray, TokenLayout
from flagdit.engine.presets import Preset
from flagdit.engine.session import Array
from flagdit.export.checkpoint import open_checkpoint
from flagdit.export.families.mmdit.graphs import Denoise, cache_names, mix
from flagdit.export.families.mmdit.model import QKV, MMDiT, normalised
from flagdit.files import write_file

TEXT = 32
"""Tokens that the text is filled up to."""


class Resting(Denoise):
    """`denoise` whose text's stream may rest. Letters as in its base class."""

    def __init__(self, model: MMDiT) -> None:
        super().__init__(model)
        self.kept: list[QKV] = []  # of the text, by layer, in the last step that computed it
        self.rests = False

    def forward(
        self, tokens: Tensor, position: Tensor, modulation: Tensor, text_start: Tensor, tail: list[Tensor]
    ) -> tuple[Tensor, ...]:
        if not self.rests:
            return super().forward(tokens, position, modulation, text_start, tail)
        return self._without_text(tokens, position, modulation, tail)

    def _without_text(
        self, tokens: Tensor, position: Tensor, modulation: Tensor, tail: list[Tensor]
    ) -> tuple[Tensor, ...]:
        model, caches = self.model, iter(zip(tail[::2], tail[1::2], strict=True))
        x, scales = self._embed(tokens, position), self._scales(modulation)
        heads: list[Tensor] = []
        for layer, block in enumerate(model.blocks):
            image, of_image = block.x_block, scales[2 * layer]
            own = image.attention.qkv(normalised(x, *of_image[:2]))
            cached = next(caches)
            _, *words = self.kept[layer]
            mixed = mix(own, cast(tuple[Tensor, Tensor], tuple(map(torch.cat, zip(cached, words, strict=True)))))
            heads += own[1:]
            second = None
            if len(of_image) == 9:
                alone = image.attention2.qkv(normalised(x, *of_image[6:8]))
                second = mix(alone, next(caches))
                heads += alone[1:]
            x = image.finish(x, mixed, of_image, second)
        return self._velocity(normalised(x, *scales[-1])), *heads


def keep_text(denoise: Resting) -> None:
    """Have every layer's text leave its queries, keys and values in `kept`."""
    for layer, block in enumerate(denoise.model.blocks):
        denoise.kept.append(cast(QKV, ()))
        plain = block.context_block.attention.qkv

        def kept(x: Tensor, layer: int = layer, plain: object = plain) -> QKV:
            denoise.kept[layer] = plain(x)  # type: ignore[operator]
            return denoise.kept[layer]

        block.context_block.attention.qkv = kept  # type: ignore[method-assign]


@dataclass
class TorchDenoise:
    """A session of `denoise`: see flagdit.engine.run.Stages."""

    denoise: Resting
    ports: list[Port]
    tokens: int  # of the picture
    rest: bool = False
    name: str = "denoise"
    backend: str = "torch"
    precision: str = "float32"
    computed: list[tuple[int, int]] = field(default_factory=list)  # tokens, and those of the text, of every call

    def bind(self, arrays: Mapping[str, Array]) -> Bound:
        return Bound(self, {name: torch.from_numpy(array) for name, array in arrays.items()})


@dataclass
class Bound:
    """Arrays of a call."""

    session: TorchDenoise
    arrays: dict[str, Tensor]

    def run(self) -> None:
        of, arrays = self.session, self.arrays
        active = len(arrays["tokens"])
        of.denoise.rests = of.rest and active < of.tokens
        names = cache_names(of.denoise.model.config, "tail")
        inputs = [arrays[name] for name in ("tokens", "position", "modulation", "text_start")]
        with torch.no_grad():
            made = of.denoise(*inputs, [arrays[name] for name in names])
        for name, value in zip(("velocity", *cache_names(of.denoise.model.config, "head")), made, strict=True):
            arrays[name].copy_(value)
        of.computed.append((active, 0 if of.denoise.rests else TEXT))


@dataclass(frozen=True)
class Row:
    """One plan, with the text computed in every step, and in dense steps alone.

    cost: FLOPs over those of 30 dense steps. psnr: to the converged picture, and the standard error of the difference
    between the two. between: from the one's pictures to the other's.
    """

    setting: str
    cost: tuple[float, float]
    psnr: tuple[float, float]
    error: float
    between: float


def main(
    checkpoint: Annotated[Path, typer.Option(help="What train.py keeps.")],
    bundle: Annotated[Path, typer.Option(help="The bundle that was made of it, in float32.")],
    model: Annotated[Path, typer.Option(help="The model directory between the two.")],
    texts: Annotated[Path, typer.Option(help="A text file, one prompt a line.")],
    prompts: Annotated[int, typer.Option(min=2)] = 12,
    json_path: Annotated[Path | None, typer.Option("--json")] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the exact pictures in this folder.")] = None,
) -> None:
    """Print cost and PSNR of plans with the text computed in every step, and in dense steps alone."""
    check_writable(json_path, (".json",))
    pipeline = Pipeline.load(bundle, threads=1)
    torch.set_num_threads(1)
    module = open_checkpoint(checkpoint).model.module
    assert isinstance(module, MMDiT)
    module.load_state_dict(load_file(model / "weights.safetensors"), assign=True)
    denoise = Resting(module.eval())
    keep_text(denoise)
    layout, price = TokenLayout.of(pipeline.spec, None), sizes_of(pipeline.spec).price
    session = TorchDenoise(denoise, list(pipeline.stages.denoise.ports), layout.tokens)
    pipeline.stages = replace(pipeline.stages, denoise=cast(Session, session))
    said = texts.read_text().splitlines()[:prompts]
    exactly = ExactPictures(Pipeline.load(bundle, threads=1), None, pipeline.spec.guidance.scale, folder=keep)
    exact = np.stack([exactly([text], seed)[0] for seed, text in enumerate(track(said, "exact"))])

    def flops(active: int, text: int) -> float:
        """Of a call with two rows. A text that rests is read by the queries of the picture, and no more."""
        whole = step_flops(price, active, layout.tokens, 2, TEXT)
        if text:
            return whole
        own = step_flops(price, 0, layout.tokens, 2, TEXT)  # what the text costs with no token of the picture
        return whole - own

    dense = flops(layout.tokens, TEXT)
    rows = []
    for setting in track([one for one in settings() if one.family in ("paper", "uncalibrated")], "plans"):
        costs, made = [], []
        for session.rest in (False, True):
            session.computed = []
            made.append(np.stack([painted(pipeline, text, seed, setting.how) for seed, text in enumerate(said)]))
            costs.append(sum(flops(*call) for call in session.computed) / len(said) / dense / STEPS)
        near = [psnr(pictures, exact) for pictures in made]
        error = float((near[1] - near[0]).std(ddof=1) / len(said) ** 0.5)
        means = float(near[0].mean()), float(near[1].mean())
        rows.append(Row(setting.name, (costs[0], costs[1]), means, error, float(psnr(*made).mean())))
    table = Table("plan", "cost", "text rests", "PSNR dB", "text rests", "between", header_style="bold", box=None)
    for row in rows:
        change = f"{row.psnr[1]:.2f} ({row.psnr[1] - row.psnr[0]:+.2f} ± {row.error:.2f})"
        table.add_row(row.setting, *(f"{c:.3f}" for c in row.cost), f"{row.psnr[0]:.2f}", change, f"{row.between:.1f}")
    Console().print(table)
    if json_path is not None:
        about = {"bundle": pipeline.spec.name, "prompts": len(said), "size": pipeline.spec.latent.size}
        write_file(json_path, json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def painted(pipeline: Pipeline, text: str, seed: int, how: Preset) -> FloatArray:
    """The picture (C, H, W)."""
    result = pipeline(text, seed=seed, steps=how.steps, solver=how.solver, ras=how.ras, shift=how.shift)
    picture: FloatArray = result.latents[0]
    return picture


if __name__ == "__main__":
    typer.run(main)
