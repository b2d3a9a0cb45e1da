"""Shape profiles: they cover dense and region-adaptive steps, and every request within the limits."""

import pytest

from flagdit.engine.bundle import Graph, ModelSpec, Profile, Tensor
from flagdit.engine.bundle.builder import read_model
from flagdit.engine.compiler.profiles import Limits, profiles, ranges
from flagdit.engine.errors import BuildError, RequestError
from flagdit.engine.layout import TokenLayout


@pytest.fixture(scope="module")
def spec(model_dir) -> ModelSpec:
    return read_model(model_dir)


def graph(shape: tuple[int | str, ...]) -> Graph:
    return Graph(file="g.onnx", inputs=(Tensor(name="x", dtype="float32", shape=shape),), outputs=())


def test_one_profile_covers_dense_and_region_adaptive_steps(spec: ModelSpec) -> None:
    tokens = TokenLayout.of(spec, None).tokens
    denoise = profiles(spec.graphs.denoise, ranges(spec, Limits()))
    assert set(denoise) == {tensor.name for tensor in spec.graphs.denoise.inputs}
    assert (denoise["tokens"].min[0], denoise["tokens"].max[0]) == (1, tokens)
    for name in ("key_tail.0", "value_tail.2"):
        assert (denoise[name].min[0], denoise[name].max[0]) == (0, tokens)  # M = 0 is a dense step
    assert denoise["tokens"].opt[0] + denoise["key_tail.0"].opt[0] == tokens


def test_limits_reach_the_axes_they_are_about(spec: ModelSpec) -> None:
    assert spec.text is not None
    axes = ranges(spec, Limits(size=(64, 32), batch=3, steps=40))
    assert axes["A"][2] == axes["M"][2] == TokenLayout.of(spec, (64, 32)).tokens
    assert (axes["R"], axes["S"]) == ((1, 2, 6), (1, 30, 40))
    assert axes["T"] == (2, spec.text.max_tokens, spec.text.max_tokens)


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(size=(4, 4), steps=1), Limits(size=(256, 128), batch=8), Limits(steps=1000)], ids=str
)
def test_every_range_is_ordered(spec: ModelSpec, limits: Limits) -> None:
    for low, best, high in ranges(spec, limits).values():
        assert low <= best <= high


def test_fixed_axes_stay_fixed() -> None:
    assert profiles(graph(("A", 3)), {"A": (1, 2, 4)}) == {"x": Profile(min=(1, 3), opt=(2, 3), max=(4, 3))}


def test_an_unknown_axis_is_named() -> None:
    with pytest.raises(BuildError, match=r"^g\.onnx: input x has axis Q; known are A, M: export the model again"):
        profiles(graph(("A", "Q")), {"A": (1, 2, 4), "M": (0, 2, 4)})


def test_a_size_that_does_not_tile_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(RequestError, match=r"^size 30x32 is not made of 4x4 patches"):
        ranges(spec, Limits(size=(30, 32)))


@pytest.mark.parametrize("name", ["batch", "steps"])
def test_limits_are_at_least_one(name: str) -> None:
    with pytest.raises(BuildError, match=rf"^{name} is 0; an engine serves at least 1$"):
        Limits(**{name: 0})
