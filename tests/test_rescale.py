"""Parts of a model made smaller by powers of two: the same velocity, and one that float16 holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import classes
import numpy as np
import onnx_ir as ir
import pytest
import torch
from diffused import FAMILIES, random_model
from safetensors.torch import load_file, save_file
from tiny import TINY, random_flag_dit
from torch import Tensor

from flagdit.engine.bundle.ports import letter
from flagdit.export import Checkpoint, ExportOptions, export_model, open_checkpoint
from flagdit.export.families.family import shapes_of
from flagdit.export.graph_source import GraphSource, Port
from flagdit.export.onnx_graph import WeightsFile
from flagdit.export.rescale import END, SMALLEST, choose, of_text, rescaled, to_text, widen_norms
from flagdit.export.weights import write_weights

SANDWICHES = ("next-dit", "lumina2", "z-image", "classes")
LARGE = {"wv.weight": 3e4, "to_v.weight": 3e4, "w1.weight": 30.0, "linear_1.weight": 30.0, "w3.weight": 300.0}


def source(name: str, folder: Path) -> Path:
    """A checkpoint whose values, and middle of the feed-forward layers, are far too large for float16."""
    if name == "classes":
        state, config = classes.random_state(4), {"n_heads": classes.HEADS}
    else:
        model = random_model(name)
        model.save_pretrained(folder)
        (old,) = folder.glob("*.safetensors")
        state, config = load_file(old), json.loads((folder / "config.json").read_text())
        old.unlink()
    blocks = ("layers.", "noise_refiner.", "context_refiner.")
    for key in state:
        factor = next((f for end, f in LARGE.items() if key.endswith(end)), 1.0)
        if key.startswith(blocks) and "norm1.linear" not in key:
            state[key] = state[key] * factor
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def loaded(opened: Checkpoint, folder: Path) -> None:
    """Give the model the numbers that an export writes."""
    write_weights(folder / "w", shapes_of(opened.model.module), opened.takes, opened.tensors, "float32")
    opened.model.module.load_state_dict(load_file(folder / "w"), assign=True)


def feeds(graph: GraphSource, given: dict[str, Tensor]) -> list[Any]:
    """Arguments of a graph's module: what is given by name, and nothing cached."""

    def one(port: Port) -> Tensor:
        if letter(port.axes[0]) == "M":
            return torch.zeros(0, 1, *port.axes[2:])  # type: ignore[arg-type]
        return given[port.name]

    return [one(i) if isinstance(i, Port) else [one(port) for port in i] for i in graph.inputs]


def velocity(opened: Checkpoint, folder: Path, *, half: bool = False) -> Tensor:
    """Of fixed tokens, at one time, for one text."""
    loaded(opened, folder)
    graphs, rng = opened.model.graphs((16, 16)), np.random.default_rng(0)
    channels = opened.model.facts().channels

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    (text,) = (i for i in graphs["condition"].inputs if isinstance(i, Port) and i.name == "text")
    length = 32 if len(text.axes) == 3 else 0
    given = {"t": torch.tensor([0.4]), "text_mask": torch.ones(1, 32, dtype=torch.bool)}
    given |= {"text": normal(1, *([length] if length else []), text.axes[-1])}  # type: ignore[list-item]
    given |= {"place": torch.tensor([[i, 0, i // 8, i % 8] for i in range(64)]), "ntk": torch.ones(1)}
    given |= {"proportional": torch.zeros(1, dtype=torch.bool), "phase": torch.zeros(1, dtype=torch.int64)}
    given |= {"tokens": normal(64, 1, 4 * channels)}
    with torch.no_grad():
        for name in ("condition", "place"):
            made = graphs[name].module(*feeds(graphs[name], given))
            axes = {p.name: p.axes for i in graphs["denoise"].inputs for p in ([i] if isinstance(i, Port) else i)}
            for port, value in zip(graphs[name].outputs, made, strict=True):
                timed = name == "condition" and port.endswith("modulation")
                rows = name == "place" and axes[port][1:2] == ("R",)
                given[port] = value[0] if timed else value[:, None] if rows else value
        kind = torch.float16 if half else torch.float32
        args = feeds(graphs["denoise"], {k: v.to(kind) if v.is_floating_point() else v for k, v in given.items()})
        args = [[x.to(kind) for x in a] if isinstance(a, list) else a for a in args]
        out: Tensor = graphs["denoise"].module.to(kind)(*args)[0]
    return out.float()


@pytest.mark.parametrize("name", SANDWICHES)
def test_the_velocity_is_the_same_and_float16_holds_it(tmp_path: Path, name: str) -> None:
    """In float32 to the bit; in float16 there was none before."""
    folder = source(name, tmp_path / "source")
    plain = velocity(open_checkpoint(folder), tmp_path)
    assert torch.isfinite(plain).all()
    assert not torch.isfinite(velocity(open_checkpoint(folder), tmp_path, half=True)).all()

    def smaller(half: bool) -> Tensor:
        opened = open_checkpoint(folder)
        chosen = choose(opened.model.module, opened.takes, opened.tensors)
        assert chosen.changed and chosen.most > END
        widen_norms(opened.model.module, chosen.powers)
        takes = rescaled(opened.takes, chosen.powers)
        return velocity(Checkpoint(folder, opened.model, takes, opened.tensors), tmp_path, half=half)

    assert torch.equal(smaller(half=False), plain)
    half = smaller(half=True)
    assert (half - plain).abs().max() < 0.02 * plain.abs().max()


def test_bounds_hold_and_matrices_keep_their_digits(tmp_path: Path) -> None:
    """What comes out of `wv` and `w3`, for vectors that a norm could give, is below what was said to be left."""
    opened = open_checkpoint(source("lumina2", tmp_path / "source"))
    chosen = choose(opened.model.module, opened.takes, opened.tensors)
    assert chosen.blocks == 4  # a layer of each refiner, two of the others
    opened = Checkpoint(tmp_path, opened.model, rescaled(opened.takes, chosen.powers), opened.tensors)
    loaded(opened, tmp_path)
    state = opened.model.module.state_dict()
    u = torch.nn.functional.rms_norm(torch.randn(1000, 48), (48,)) * state["layers.0.attention_norm1.weight"]
    assert 0 < (u @ state["layers.0.attention.wv.weight"].T).abs().max() < chosen.left
    f = torch.nn.functional.rms_norm(torch.randn(1000, 48), (48,)) * state["layers.0.ffn_norm1.weight"]
    w1, w2, w3 = (state[f"layers.0.feed_forward.w{i}.weight"] for i in (1, 2, 3))
    middle = torch.nn.functional.silu(f @ w1.T) * (f @ w3.T)
    assert 0 < middle.abs().max() < chosen.left and (middle @ w2.T).abs().max() < chosen.left
    for name in chosen.powers:
        assert state[name].square().mean().sqrt() > 0.99 * SMALLEST, name


def test_ordinary_models_stay_as_they_are(tmp_path: Path) -> None:
    random_model("next-dit").save_pretrained(tmp_path)
    opened = open_checkpoint(tmp_path)
    chosen = choose(opened.model.module, opened.takes, opened.tensors)
    assert not chosen.powers and chosen.blocks == 2
    assert chosen.said().endswith("and it ends at 65504; nothing is rescaled")


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are not looked at here."""

    def trace(self: GraphSource, weights: WeightsFile | None = None) -> ir.Model:
        return ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 23}), ir_version=10)

    monkeypatch.setattr(GraphSource, "trace", trace)


@pytest.mark.usefixtures("untraced")
def test_what_was_chosen_is_said_and_kept(tmp_path: Path) -> None:
    """An export of an export has the same weights, and the epsilon that goes with them."""
    said: list[str] = []
    opened = open_checkpoint(source("next-dit", tmp_path / "source"))
    options = ExportOptions(dtype="float32", size=(16, 16))
    export_model(opened, tmp_path / "one", options, say=said.append)
    assert "2 of 2 blocks are smaller by powers of two, up to 2^-" in said[0]
    again = open_checkpoint(tmp_path / "one")
    export_model(again, tmp_path / "two", options, say=said.append)
    assert len(said) == 1 and again.powers == of_text(to_text(again.powers)) != {}
    for file in ("weights.safetensors",):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    specs = [json.loads((tmp_path / name / "model.json").read_text()) for name in ("one", "two")]
    assert specs[0] == specs[1] and specs[0]["config"]["rescaled"]
    norms = [[m.eps for n, m in o.model.module.named_modules() if "norm2" in n] for o in (opened, again)]
    assert norms[0] == norms[1] and max(norms[0]) < 1e-6
    plain = open_checkpoint(tmp_path / "source")
    export_model(plain, tmp_path / "three", ExportOptions(dtype="float32", size=(16, 16), rescale=False))
    assert "rescaled" not in json.loads((tmp_path / "three/model.json").read_text())["config"]


@pytest.mark.usefixtures("untraced")
def test_where_no_norm_follows_bfloat16_is_named(tmp_path: Path) -> None:
    said: list[str] = []
    export_model(random_flag_dit(TINY), tmp_path / "model", ExportOptions(size=(32, 32)), say=said.append)
    assert said[0].startswith("float16: no norm follows") and "--precision bfloat16" in said[0]


@pytest.mark.usefixtures("untraced")
def test_an_export_that_goes_on_keeps_its_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not look at the weights a second time."""
    folder = source("classes", tmp_path / "source")
    export_model(open_checkpoint(folder), tmp_path / "whole", ExportOptions(size=(16, 16)))

    def stop(said: str) -> None:
        if said == "condition":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_model(open_checkpoint(folder), tmp_path / "model", ExportOptions(size=(16, 16)), progress=stop)
    with monkeypatch.context() as patch:
        patch.setattr("flagdit.export.exporter.choose", lambda *_: pytest.fail("weights were looked at"))
        export_model(open_checkpoint(folder), tmp_path / "model", ExportOptions(size=(16, 16)))
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "model" / path.name).read_bytes(), path.name


def test_families_are_those_that_have_norms_behind() -> None:
    assert {*SANDWICHES} - {"classes"} == {name for name in FAMILIES if not name.startswith("sd3")}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1.5}', '{"a": 0}', '{"a": 64}'])
def test_powers_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        of_text(text)
