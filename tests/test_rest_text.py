"""Runs whose text rests in steps that leave patches out: what they attend to, what they cost, and who is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from pipelines import CASES, write_bundle

from flagdit.cpp_ext import Session, check_model
from flagdit.engine import BundleError, Coarse, Pipeline, RasConfig, RequestError, SkipLayerGuidance, make_plan
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.bundle.ports import is_text
from flagdit.engine.calibrate.search import cost, shapes
from flagdit.engine.calibrate.space import Shape, preset_of, start
from flagdit.engine.compiler.profiles import Limits, profiles, ranges
from flagdit.engine.cost import price, sizes_of
from flagdit.engine.model import model_of
from flagdit.engine.presets import presets_of

Flagdit = Callable[..., tuple[int, str, str]]

PROMPTS = ["a red apple on the left", "a star"]
RAS = RasConfig(0.4, warmup=2, resets=(5,))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Three layers, one of which has a second attention that sees no text."""
    folder = tmp_path_factory.mktemp("sd3.5")
    write_bundle(CASES["sd3.5"], folder)
    return Pipeline.load(folder / "bundle", threads=1)


@pytest.fixture(scope="module", params=["sd3.5", "lumina2", "z-image"])
def resting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Also of one stream, where a bias hides what fills up the shorter text, and tokens that fill up the picture."""
    if request.param == "sd3.5":
        return cast(Pipeline, request.getfixturevalue("own"))
    folder = tmp_path_factory.mktemp(request.param)
    write_bundle(CASES[request.param], folder)
    return Pipeline.load(folder / "bundle", threads=1)


class KeepsText:
    """A session that lets the text rest by itself: it is always given one, and computes it in dense steps alone."""

    name, backend, precision = "denoise", "numpy", "float32"

    def __init__(self, session: Session) -> None:
        self.session, self.ports = session, session.ports
        self.kept: dict[int, dict[str, np.ndarray]] = {}  # by where the text lies: calls of branches have their own
        self.rested = 0

    def bind(self, arrays: Mapping[str, np.ndarray]) -> KeepingBinding:
        return KeepingBinding(self, arrays)


class KeepingBinding:
    def __init__(self, of: KeepsText, arrays: Mapping[str, np.ndarray]) -> None:
        self.of, self.arrays = of, arrays

    def run(self) -> None:
        of, arrays = self.of, self.arrays
        given = {port.name: arrays[port.name] for port in of.ports if not port.output}
        dense, place = len(given["key_tail.0"]) == 0, given["text_start"].ctypes.data
        if not dense:
            of.rested += 1
            for port in of.ports:
                if not port.output and is_text(port.axes):
                    given[port.name] = np.ascontiguousarray(given[port.name][:, :0])
            given |= {name: np.concatenate([given[name], rows]) for name, rows in of.kept[place].items()}
        made = of.session.run(given)
        for port in of.ports:
            if port.output and len(made[port.name]):
                arrays[port.name][...] = made[port.name]
        if dense:
            of.kept[place] = {n.replace("_text", "_tail"): x.copy() for n, x in made.items() if "_text" in n}


@pytest.mark.parametrize(
    ("ras", "options"),
    [
        (RAS, {}),
        (replace(RAS, forecast_kv=0.5), {"solver": "heun"}),
        (replace(RAS, error_budget=0.6, gate=0.05), {}),
        (replace(RAS, guidance_every=2, guidance_warmup=1), {}),
        (replace(RAS, forecast_kv=0.7), {"skip_layer_guidance": SkipLayerGuidance(2.0, 0.01, 0.5, [0, 2])}),
        (replace(RAS, resets=()), {"coarse": Coarse(2, 2, 0.3)}),
        (RAS, {"guidance": 1.0}),
    ],
    ids=["plain", "forecast", "decides", "branches apart", "skips layers", "coarse first", "one branch"],
)
def test_it_attends_to_what_the_text_was_in_the_last_dense_step(
    resting: Pipeline, ras: RasConfig, options: dict[str, Any]
) -> None:
    """Bit for bit what a session makes that keeps the text's keys and values by itself, and not what one makes anew."""
    own = resting
    if "skip_layer_guidance" in options and "layers" not in {t.name for t in own.spec.graphs.condition.inputs}:
        pytest.skip("skips no layers")
    asked: dict[str, Any] = {"prompts": PROMPTS, "seeds": [3, 4], "steps": 8, "guidance": 2.5, **options}
    keeping = KeepsText(own.stages.denoise)
    by_itself = own.with_denoise(cast(Session, keeping))(**asked, ras=ras).latents
    rested = own(**asked, ras=replace(ras, rest_text=True))
    np.testing.assert_array_equal(rested.latents, by_itself)
    assert keeping.rested
    anew = own(**asked, ras=ras)
    assert np.abs(rested.latents - anew.latents).max() > 0
    assert rested.report.flop_ratio < anew.report.flop_ratio


def test_its_rows_are_not_paid_for(own: Pipeline) -> None:
    """A step that leaves patches out costs what its own tokens do, with the text among the keys."""
    text, tokens = 333, 64
    plan = make_plan(replace(RAS, rest_text=True), 8, tokens)
    of = sizes_of(own.spec).price
    steps = [2 * s.active * (of.token + (tokens + text) * of.pair) for s in plan.steps]
    whole = [2 * text * (of.text + (tokens + text) * of.text_pair) if s.dense else 0 for s in plan.steps]
    found = price(own.spec, plan, text=text)
    assert found.flops == pytest.approx([a + b for a, b in zip(steps, whole, strict=True)])
    anew = price(own.spec, make_plan(RAS, 8, tokens), text=text)
    assert found.total < anew.total and found.dense_flops == anew.dense_flops
    assert found.cache_bytes == anew.cache_bytes


def test_the_caches_of_a_text_are_counted(own: Pipeline, pipeline: Pipeline) -> None:
    assert sizes_of(own.spec).text_cached == 3 * 2 * 48
    assert sizes_of(pipeline.spec).text_cached == 0


def test_paper_mode_never_rests(own: Pipeline) -> None:
    with pytest.raises(RequestError, match="paper mode computes the text in every step; leave rest_text out"):
        own("a star", ras=RasConfig(0.5, mode="paper", rest_text=True))


def test_a_text_that_is_no_stream_cannot_rest(pipeline: Pipeline) -> None:
    with pytest.raises(RequestError, match="this model's text cannot rest: its denoise gives no keys and values"):
        pipeline("a star", steps=8, ras=replace(RAS, rest_text=True))


def test_the_command_line(flagdit: Flagdit, own: Pipeline, tmp_path: Path) -> None:
    """A picture, its report, and the command that makes it again; of dense steps it says nothing."""
    bundle, rests = own.bundle.directory, ("--ras", "rest_text=yes")
    code, _, err = flagdit("plan", "--bundle", bundle, "--dense", *rests)
    assert code and "dense and rest_text contradict each other" in err
    options = ("--steps", 8, "--ratio", 0.4, "--ras", "warmup=2")
    picture, report, costs = tmp_path / "a.png", tmp_path / "a.json", []
    for more in ((), rests):
        code, out, err = flagdit("plan", "--bundle", bundle, *options, *more, "--json")
        assert code == 0, err
        costs.append(json.loads(out)["flop_ratio"])
        assert ("at rest in the" in flagdit("plan", "--bundle", bundle, *options, *more)[1]) == bool(more)
        files = ("-o", picture, "--report", report)
        code, _, err = flagdit("generate", "a star", "--bundle", bundle, *options, *more, *files)
        assert code == 0, err
        costs.append(json.loads(report.read_text())["flop_ratio"])
    assert costs[2] < costs[0] and costs[3] < costs[1]
    assert "--ras rest_text=true" in flagdit("inspect", picture)[1]


def test_calibration_tries_both(own: Pipeline, pipeline: Pipeline) -> None:
    """At rest the text leaves more of a budget to patches; what won is a preset, and refused where no text can rest."""
    spec = own.spec
    assert model_of(spec).may_rest() and not model_of(pipeline.spec).may_rest()

    def cost_of(shape: Shape) -> float:
        return cost(spec, preset_of(shape, start(shape)), (256, 256))

    tried = shapes(0.4, cost_of, rests=True)
    anew, rested = ([s for s in tried if s.rests is rests and not s.dense] for rests in (False, True))
    assert anew and anew == [shape for shape in shapes(0.4, cost_of) if not shape.dense]
    at_rest = {(shape.steps, shape.warmup, shape.last_dense): sum(shape.ratios) for shape in rested}
    more = [at_rest[key] - sum(s.ratios) for s in anew if (key := (s.steps, s.warmup, s.last_dense)) in at_rest]
    assert min(more) >= 0 < max(more)
    how = preset_of(rested[0], start(rested[0]))
    preset = {
        "name": "rested", "size": spec.latent.size, "times": how.steps, "weights": how.weights, "rest_text": True,
        "ratios": how.ras.ratios(how.count), "cost": 0.4,
    }  # fmt: skip
    known = ModelSpec.model_validate({**spec.model_dump(), "presets": [preset]})
    assert presets_of(known, None)["rested"].ras.rest_text
    assert model_of(known).may_rest((64, 72)) and not model_of(known).may_rest((40, 40))  # 72 and 25 tokens
    assert not presets_of(known, (40, 40))["rested"].ras.rest_text
    check_model("model.json", known.model_dump_json().encode())
    other = ModelSpec.model_validate({**pipeline.spec.model_dump(), "presets": [preset]})
    with pytest.raises(BundleError, match=r"presets, rested: rest_text is true, and this model's text cannot rest"):
        check_model("model.json", other.model_dump_json().encode())


Change = Callable[[dict[str, Any]], object]


def outputs(spec: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = spec["graphs"]["denoise"]["outputs"]
    return made


def without(*names: str) -> Change:
    return lambda spec: outputs(spec).__setitem__(slice(None), [o for o in outputs(spec) if o["name"] not in names])


def of_text(shape: list[object], *graphs: str) -> Change:
    """Another shape of the text that `denoise` takes, or of the one that `condition` makes."""

    def change(spec: dict[str, Any]) -> None:
        for graph in graphs:
            for port in spec["graphs"][graph]["outputs" if graph == "condition" else "inputs"]:
                if port["name"] == "text_start":
                    port["shape"] = shape

    return change


def bias_as_text(spec: dict[str, Any]) -> None:
    """A bias of the text's keys that `denoise` takes for one more text."""
    for graph, side, second in (("condition", "outputs", 1), ("denoise", "inputs", "T")):
        port = {"name": "text_bias", "dtype": "float32", "shape": ["R", second, 1, "T"]}
        spec["graphs"][graph][side].append(port)


HOSTILE: dict[str, tuple[Change, str]] = {
    "a layer without": (
        without("key_text.1", "value_text.1"),
        "graphs.denoise.outputs: what a text adds to the caches 'key' is there of some layers and not of others",
    ),
    "values without": (without("value_text.2"), "the caches 'value' is there of some layers"),
    "a text of one length": (
        of_text(["R", 333, 48], "condition", "denoise"),
        "graphs.denoise.inputs: none is a text (R, T, ...), and some outputs begin with T",
    ),
    "a length that is another": (
        lambda spec: (of_text(["R", 333, 48], "condition")(spec), spec["sizes"].update(text=300)),
        "sizes.text is 300, and condition makes texts of 333 tokens",
    ),
    "a bias that is a text": (bias_as_text, "text_bias is float32 (R, T, 1, T); allowed is"),
    "another type": (
        lambda spec: outputs(spec)[-1].update(dtype="float16"),
        "value_text.2 is float16 (T, R, 3, 16); allowed is float32 (T, R, 3, 16)",
    ),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_bundle_that_says_otherwise_is_refused(own: Pipeline, fault: str) -> None:
    change, said = HOSTILE[fault]
    spec = own.spec.model_dump(mode="json")
    check_model("model.json", json.dumps(spec).encode())
    change(spec)
    with pytest.raises(BundleError, match=re.escape(said)):
        check_model("model.json", json.dumps(spec).encode())


def test_a_bundle_of_before_runs_as_it_did(own: Pipeline) -> None:
    """Without outputs of the text nothing rests, and no cache is longer."""
    spec = own.spec.model_dump(mode="json")
    without(*[o["name"] for o in outputs(spec) if "_text" in o["name"]])(spec)
    spec["sizes"].pop("text")
    check_model("model.json", json.dumps(spec).encode())
    before = ModelSpec.model_validate(spec)
    assert sizes_of(before).text_cached == 0 and not model_of(before).may_rest()


def test_profiles_hold_the_text_or_none(own: Pipeline) -> None:
    """Of a model that fills texts up kernels are chosen for just that length."""
    graph, tokens = own.spec.graphs.denoise, 64
    found = profiles(graph, ranges(own.spec, Limits()))
    text, tail = found["text_start"], found["key_tail.0"]
    assert (text.min[1], text.opt[1], text.max[1]) == (0, 333, 333)
    assert (tail.min[0], tail.max[0]) == (0, tokens + 333)
