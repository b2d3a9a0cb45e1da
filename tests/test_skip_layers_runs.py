"""Runs with a branch of guidance that skips layers: which steps have it, and whose velocities and caches they use."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import by_hand
import fake
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import LAYERS, with_layers
from test_guidance import LAYOUT
from test_guidance_runs import ByToken, finish, rows
from test_pipeline import PROMPT, difference

from flagdit.engine import (
    DENSE,
    Coarse,
    Pipeline,
    RasConfig,
    RequestError,
    SkipLayerGuidance,
    Solver,
    make_plan,
)
from flagdit.engine.cost import price
from flagdit.engine.memory import memory
from flagdit.engine.request import Request
from flagdit.engine.run import Run

SKIPS = SkipLayerGuidance(1.5, 0.01, 0.5, [1, 3])


@pytest.fixture(scope="module")
def layered(pipeline: Pipeline) -> Pipeline:
    """The tiny bundle, with `layers` to skip."""
    out = pipeline.with_denoise(pipeline.stages.denoise)
    out.stages = with_layers(pipeline.stages, (2,))
    out.spec = out.stages.spec
    return out


def request(ras: RasConfig, steps: int = 12, seeds: tuple[int, ...] = (7,), **other: Any) -> Request:
    asked = {"solver": "euler", "skip_layer_guidance": SKIPS, **other}
    return Request([PROMPT, "green star"][: len(seeds)], list(seeds), steps, None, 4.0, 2.0, ras, **asked)


@given(start=st.floats(0, 0.99), more=st.floats(0.001, 1), count=st.integers(1, 200))
@settings(deadline=None)
def test_steps_are_those_of_diffusers(start: float, more: float, count: int) -> None:
    """StableDiffusion3Pipeline: i > n start and i < n stop."""
    stop = min(start + more, 1.0)
    steps = [i for i in range(count) if i > count * start and i < count * stop]
    skips = SkipLayerGuidance(2.8, start, stop)
    if steps:
        assert list(range(*skips.steps(count))) == steps
    else:
        with pytest.raises(RequestError, match=rf"of {count} steps, which is none of them"):
            skips.steps(count)


OPTIONS = st.fixed_dictionaries(
    {
        "ratio": st.sampled_from([0.1, 0.4, 1.0]),
        "warmup": st.integers(1, 3),
        "resets": st.sampled_from([None, (), (-1,)]),
        "starvation": st.sampled_from([0.0, 0.1]),
        "error_budget": st.sampled_from([0.0, 0.1]),
        "gate": st.sampled_from([0.0, 0.5, 10.0]),
        "guidance_every": st.integers(1, 4),
        "guidance_warmup": st.just(1),
    }
)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun"])
@given(options=OPTIONS, first=st.integers(0, 11), count=st.integers(1, 12), samples=st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_a_token_is_guided_by_what_was_computed_with_it(
    solver: Solver, options: dict[str, Any], first: int, count: int, samples: int
) -> None:
    """Known velocities of three branches; a plan that begins and ends the third one with dense steps."""
    if options["guidance_every"] == 1:
        options = options | {"guidance_warmup": None}
    ras, skips = RasConfig(**options), (first, first + count)
    plan = make_plan(ras, 12, LAYOUT.tokens, pinned=LAYOUT.pinned, solver=solver, skips=skips)
    assert plan.skips == [first <= step < first + count for step in range(12)]
    for one, other in pairwise(range(12)):
        assert plan.turns(other) == (plan.skips[one] != plan.skips[other])
        assert plan.steps[other].dense or not plan.turns(other)
    rng = np.random.default_rng(first)
    noise, velocities = fake.waves(plan, rng, samples=samples, branches=3)
    by_patch = np.stack([LAYOUT.patchify(v) for v in velocities])  # (E, patches, R, P)
    kept = np.zeros((LAYOUT.patches, samples, LAYOUT.patch_values), np.float32)
    guided, heads, owed = np.zeros((len(by_patch), *kept.shape)), [], False
    for timed, active, state in fake.timed_run(LAYOUT, plan, noise, velocities, 4.0, 1.5):
        step = timed.step.index
        due = plan.unconditional[step] or owed
        owed = due and not timed.step.active
        assert timed.branches == (1 + due + plan.skips[step] if timed.step.active else 0)
        for row, evaluation in enumerate(plan.evaluations):
            if evaluation.step != step or not timed.step.active:
                continue
            conditional, unconditional, skipping = np.split(by_patch[row], 3, axis=1)
            for b, head in enumerate(active):
                if due:
                    kept[list(head), b] = (conditional - unconditional)[list(head), b]
            guided[row] = conditional + 3 * kept + (1.5 * (conditional - skipping) if plan.skips[step] else 0)
        heads.append(active)
        images = state.images()
    for b in range(samples):
        calls = iter(guided[:, :, b])
        noises, own = LAYOUT.patchify(noise)[:, b], [head[b] for head in heads]
        *_, last = oracle.integrate(plan.steps, solver, own, noises, lambda t, x, c=calls: next(c), 0)
        np.testing.assert_allclose(LAYOUT.patchify(images)[:, b], last, 1e-3, 1e-3)


@pytest.mark.parametrize("options", [{}, {"guidance_every": 2, "guidance_warmup": 3, "gate": 0.02}])
@pytest.mark.parametrize("ratio", [0.5, 0.2])
def test_ras_is_the_slow_reference(layered: Pipeline, options: dict[str, Any], ratio: float) -> None:
    """Two pictures: each token's caches, of all three branches, are its own after every swap."""
    seeds = (7, 2)
    asked = request(RasConfig(ratio, warmup=1, resets=(), **options), 14, seeds)
    run = Run(layered.stages, asked)
    times = [evaluation.t for evaluation in run.plan.evaluations]
    prompts = [*asked.prompts, "", "", *asked.prompts]
    conditions, modulations = by_hand.conditions(layered, prompts, times, np.ones(LAYERS, np.float32))
    share = np.array([1, 1, 1, 1, 0.5, 0.5], np.float32)  # two layers of four
    modulations["modulation"] = modulations["modulation"] * share[:, None, None, None]
    _, shared = by_hand.places(layered, run.layout)
    slow = [
        ByToken(layered, run, [rows(conditions, row) | shared for row in (b, b + 2, b + 4)], seed)
        for b, seed in enumerate(seeds)
    ]
    regional = 0
    for preview in run:
        timed = preview.timed
        regional += timed.branches == 3 and not timed.step.dense
        now = {name: x[timed.step.index] for name, x in modulations.items()}
        dt = np.float32(timed.step.t_next - timed.step.t)
        for b, sample in enumerate(slow):
            if not timed.step.active:
                sample.latent[sample.at] += dt * sample.velocity[sample.at]
                continue
            head = np.sort(run.state["token"][: timed.step.active, b])
            of = [sample.branch(call, head, rows(now, b + 2 * call)) for call in range(timed.branches)]
            if timed.branches > 1:
                sample.kept[head] = of[0] - of[1]
            more = 1.5 * (of[0] - of[2]) if timed.branches > 2 else 0
            sample.velocity[head] = of[0] + 3 * sample.kept[head] + more
            sample.latent[sample.at] += dt * sample.velocity[sample.at]
    assert regional >= 3
    latents = run.result().latents
    for b, sample in enumerate(slow):
        assert difference(latents[b], sample.image()) < 1e-4


def test_a_batch_is_its_pictures_and_begins_coarse(layered: Pipeline) -> None:
    """Steps are counted over both sizes: the part that has no such step has two branches."""
    coarse = {"coarse": Coarse(2, 4, until=0.4), "size": (32, 32)}
    asked = replace(request(RasConfig(0.3, warmup=2), 8, (7, 2)), **coarse)
    batch = Run(layered.stages, asked).finish()
    assert [step.branches for step in batch.report.steps] == [2, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2]
    assert [step.dense for step in batch.report.steps[4:8]] == [True, True, True, False]
    for i, prompt in enumerate(asked.prompts):
        alone = Run(layered.stages, replace(asked, prompts=[prompt], seeds=[(7, 2)[i]])).finish()
        assert difference(batch.latents[i], alone.latents[0]) < 1e-5
    early = replace(asked, skip_layer_guidance=replace(SKIPS, stop=0.3))
    assert [step.branches for step in Run(layered.stages, early).finish().report.steps] == [2, 3, 3, 3, *[2] * 8]


def test_with_a_picture_the_steps_that_are_done_count(layered: Pipeline) -> None:
    """As those of others do: of ten steps with a strength of .5 the last five, the first of which is none of them."""
    width, height = layered.spec.latent.size
    skips = SkipLayerGuidance(1.5, 0, 0.5, [1])
    image = np.full((height, width, 3), 90, np.uint8)
    for solver in ("euler", "ab2"):
        result = layered(PROMPT, steps=10, image=image, strength=0.5, skip_layer_guidance=skips, solver=solver)
        assert [step.branches for step in result.report.steps] == [2, 3, 3, 2, 2]
        assert [step.dense for step in result.report.steps][1::2] == [True, True]


def test_the_price_and_the_memory(layered: Pipeline) -> None:
    """A third more caches all along, half as much work again where it runs."""
    plans = [make_plan(DENSE, 20, 72, pinned=8, skips=skips) for skips in ((0, 0), (1, 4))]
    usual, skipping = (price(layered.spec, plan) for plan in plans)
    assert skipping.flops == pytest.approx([usual.dense_flops * (1.5 if 1 <= i < 4 else 1) for i in range(20)])
    assert skipping.flop_ratio == pytest.approx((20 + 1.5) / 20) and skipping.dense_flops == usual.dense_flops
    pair = [memory(layered.spec, [plan], "float32") for plan in plans]
    keys = 72 * sum(
        port.values({"M": 1, "R": 1}) for port in layered.spec.graphs.denoise.inputs if port.shape[0] == "M"
    )
    velocity = 72 * layered.spec.patch_values
    assert pair[1].caches - pair[0].caches == 4 * (keys + velocity)  # the difference of guidance, too
    assert pair[1].conditions > pair[0].conditions
    report = Run(layered.stages, request(DENSE)).finish().report
    planned = price(layered.spec, Run(layered.stages, request(DENSE)).plan)
    assert report.cache_bytes == planned.cache_bytes
    assert report.flop_ratio == pytest.approx((12 + 0.5 * 5) / 12)
    assert report.skip_layer_guidance == {"scale": 1.5, "start": 0.01, "stop": 0.5, "layers": [1, 3]}


def test_the_layers_that_suit_the_model(layered: Pipeline) -> None:
    """Where nobody says any."""
    said, own = (replace(SKIPS, layers=layers) for layers in ([2], None))
    one, other = (Run(layered.stages, request(DENSE, skip_layer_guidance=skips)).finish() for skips in (said, own))
    np.testing.assert_array_equal(one.latents, other.latents)
    assert other.report.skip_layer_guidance is not None and other.report.skip_layer_guidance["layers"] == [2]
    result = layered(PROMPT, steps=12, skip_layer_guidance=1.5, ras=DENSE)
    assert result.report.skip_layer_guidance == {"scale": 1.5, "start": 0.01, "stop": 0.2, "layers": [2]}
    off = layered(PROMPT, steps=4, skip_layer_guidance=0, ras=DENSE)
    assert off.report.skip_layer_guidance is None


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no guidance": ({"guidance": 1.0}, "guidance is 1, which turns it off; give another guidance"),
    "no step": ({"steps": 4, "skip_layer_guidance": SkipLayerGuidance()}, "0.2 of 4 steps, which is none of them"),
    "a layer": ({"skip_layer_guidance": SkipLayerGuidance(layers=(1, 4))}, "skips layer 4; the model has 0 to 3"),
    "paper": ({"ras": RasConfig(mode="paper")}, "paper mode has two branches of guidance"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(layered: Pipeline, name: str) -> None:
    change, message = REFUSED[name]
    with pytest.raises(RequestError) as error:
        Run(layered.stages, replace(request(DENSE), **change))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"scale": 0}, "skip_layer_guidance is 0; allowed are above 0 to 100"),
        ({"scale": float("nan")}, "skip_layer_guidance is nan"),
        ({"start": 0.5}, "from 0.5 to 0.2 of the steps; allowed are shares of 0 to 1"),
        ({"layers": ()}, "skip_layer_guidance has 0 layers; allowed are 1 to 1000"),
        ({"layers": (1.5,)}, "a layer to skip is 1.5; allowed are whole numbers from 0"),
        ({"layers": "7,8"}, "the layers of skip_layer_guidance are '7,8'; allowed is a list of numbers"),
    ],
)
def test_numbers_out_of_bounds(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as error:
        SkipLayerGuidance(**numbers)
    assert message in str(error.value)


def test_a_bundle_that_cannot_is_told_apart(pipeline: Pipeline, layered: Pipeline) -> None:
    with pytest.raises(RequestError, match="this bundle's model has no branch that skips layers; leave it out"):
        pipeline.start(request(DENSE))
    none = with_layers(pipeline.stages)
    with pytest.raises(RequestError, match="the model says none that suit it; give some, from 0 to 3"):
        Run(none, request(DENSE, skip_layer_guidance=SkipLayerGuidance(stop=0.5)))
    usual = pipeline.start(request(DENSE, skip_layer_guidance=None))
    np.testing.assert_array_equal(finish(Run(layered.stages, usual.request)), finish(usual))
