"""Engines for TensorRT-RTX: built here without a GPU, and checked by what the builder says of them."""

import shutil
import sys
from pathlib import Path

import onnx_ir as ir
import pytest
from test_quantised import scales_of
from tiny import random_flag_dit

from flagdit.engine.bundle import ModelSpec
from flagdit.engine.bundle.builder import read_model
from flagdit.engine.compiler import build, process
from flagdit.engine.compiler.build import Job
from flagdit.engine.compiler.build_rtx import build_rtx, check_architectures
from flagdit.engine.compiler.engines import BuildOptions, BuiltEngine
from flagdit.engine.compiler.process import build_apart
from flagdit.engine.compiler.profiles import profiles, ranges
from flagdit.engine.compiler.scales import SCALES, write_scales
from flagdit.engine.errors import BackendError, BuildError, OutputError
from flagdit.engine.tensorrt import package
from flagdit.export import ExportOptions, FlagDiTConfig, export_model

LAYERS = 2
GQA = FlagDiTConfig(
    dim=64, n_layers=LAYERS, n_heads=4, n_kv_heads=2, patch_size=4, in_channels=3, cap_feat_dim=16, multiple_of=32
)

pytestmark = [
    pytest.mark.rtx,
    pytest.mark.skipif(
        package.installed("tensorrt-rtx") is None, reason="no TensorRT-RTX here: pip install 'flagdit[rtx]'"
    ),
]


class Progress(list[tuple[str, float]]):
    """What a build reported."""

    def __call__(self, name: str, fraction: float) -> None:
        self.append((name, fraction))


class Built:
    """What build_rtx returned, where it wrote, and what it reported."""

    def __init__(self, directory: Path, spec: ModelSpec, output: Path, options: BuildOptions) -> None:
        self.output, self.progress = output, Progress()
        engines = build_rtx(directory, spec, output, options=options, progress=self.progress)
        self.engines: dict[str, BuiltEngine] = {built.engine.graph: built for built in engines}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rtx") / "model"
    export_model(random_flag_dit(GQA), path, ExportOptions(dtype="float16", size=(32, 32)))
    return path


@pytest.fixture(scope="module")
def spec(directory: Path) -> ModelSpec:
    return read_model(directory)


@pytest.fixture(scope="module")
def built(directory: Path, spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(directory, spec, tmp_path_factory.mktemp("engines"), BuildOptions((120, 86, 89)))


def job(directory: Path, spec: ModelSpec, output: Path, graph: str = "denoise", precision: str = "float16") -> Job:
    described = getattr(spec.graphs, graph)
    return Job(
        target="tensorrt-rtx",
        graph=directory / described.file,
        output=output / "out.engine",
        precision=precision,
        profile=profiles(described, ranges(spec, BuildOptions().limits)),
        architectures=(89,),
    )


def test_two_engines_are_built_and_described(built: Built, spec: ModelSpec) -> None:
    names = {"condition": "condition.rtx-sm86-sm89-sm120.engine", "denoise": "denoise.rtx-sm86-sm89-sm120.engine"}
    assert {path.name for path in built.output.iterdir()} == set(names.values())
    for graph, (engine, _) in built.engines.items():
        assert engine.file == names[graph]
        assert (engine.target, engine.architectures, engine.precision) == ("tensorrt-rtx", (86, 89, 120), "float16")
        assert engine.platform.startswith(sys.platform)
        assert engine.build_seconds > 0
        assert engine.peak_build_bytes is None or engine.peak_build_bytes > 1 << 20
        described = getattr(spec.graphs, graph)
        assert [t.name for t in engine.inputs] == [t.name for t in described.inputs]
        assert [t.shape for t in engine.outputs] == [t.shape for t in described.outputs]


def test_keys_and_values_are_half_and_the_rest_is_not(built: Built) -> None:
    types = {
        t.name: t.dtype for t in (*built.engines["denoise"].engine.inputs, *built.engines["denoise"].engine.outputs)
    }
    for name in ("key_tail.0", "value_tail.1", "key_head.1", "value_head.0", "text_key.0", "text_value.1"):
        assert types[name] == "float16", name
    for name in ("tokens", "velocity", "rope_cos", "modulation", "text_bias", "attention_scale"):
        assert types[name] == "float32", name


def test_what_condition_returns_is_what_denoise_takes(built: Built) -> None:
    given = {t.name: t.dtype for t in built.engines["condition"].engine.outputs}
    taken = {t.name: t.dtype for t in built.engines["denoise"].engine.inputs}
    assert given.items() <= taken.items()


def test_every_attention_is_one_kernel(built: Built) -> None:
    layers = built.engines["denoise"].layers
    assert layers is not None
    assert layers.fused_attentions == 2 * LAYERS  # to the image and to the text
    assert layers.kernels < 30 * LAYERS
    assert layers.weights_bytes > 0
    assert layers.activation_bytes > 0


def test_the_profile_reaches_from_dense_to_sparse(built: Built, spec: ModelSpec) -> None:
    (profile,) = built.engines["denoise"].engine.profiles
    assert profile["key_tail.0"].min[0] == 0
    assert profile["tokens"].max[0] == profile["key_tail.0"].max[0] == 72


def test_progress_never_goes_back(built: Built) -> None:
    for graph in ("condition", "denoise"):
        fractions = [fraction for name, fraction in built.progress if name == graph]
        assert (fractions[0], fractions[-1]) == (0.0, 1.0)
        assert fractions == sorted(fractions)
        assert len(fractions) > 10


def test_bfloat16_fuses_too(directory: Path, spec: ModelSpec, tmp_path: Path) -> None:
    made = build_apart(job(directory, spec, tmp_path, precision="bfloat16"), lambda _: None)
    assert made.layers is not None
    assert made.layers.fused_attentions == 2 * LAYERS


@pytest.mark.parametrize(("precision", "architectures"), [("int8", (86, 89)), ("fp8", (89, 120))])
def test_products_of_layers_are_low_and_attentions_fused(
    directory: Path, spec: ModelSpec, tmp_path: Path, precision: str, architectures: tuple[int, ...]
) -> None:
    """Queries, keys and values may be one product, and so may w1 and w3; the model's ends are two more."""
    write_scales(tmp_path / SCALES, scales_of(directory / spec.graphs.denoise.file))
    options = BuildOptions(architectures, precision)
    low = Built(directory, spec, tmp_path, options)
    engine, layers = low.engines["denoise"]
    assert (engine.precision, low.engines["condition"].engine.precision) == (precision, "float16")
    assert {t.dtype for t in engine.inputs if "key_tail" in t.name} == {"float16"}
    assert layers is not None
    assert 4 * LAYERS <= layers.low_products <= 7 * LAYERS
    assert layers.products <= layers.low_products + 2
    assert layers.fused_attentions == 2 * LAYERS


def test_float32_builds_from_decomposed_attentions(directory: Path, spec: ModelSpec, tmp_path: Path) -> None:
    made = build_apart(job(directory, spec, tmp_path, precision="float32"), lambda _: None)
    assert made.layers is not None
    assert made.layers.fused_attentions == 0
    assert {tensor.dtype for tensor in made.inputs} == {"float32"}


@pytest.mark.parametrize(
    ("architectures", "precision", "message"),
    [
        ((), "float16", r"^no architecture to build for; TensorRT-RTX compiles for sm 75, 80, 86, 89, 120, 121$"),
        ((89, 90), "float16", r"^sm 90: TensorRT-RTX compiles for sm 75, .*89 is compute capability 8\.9"),
        ((87,), "float16", r"^sm 87 \(Jetson Orin\): .* flagdit build DIR -o BUNDLE --target tensorrt$"),
        ((110,), "float16", r"^sm 110 \(Jetson Thor\): .* flagdit build DIR -o BUNDLE --target tensorrt$"),
        ((86, 89), "fp8", r"^sm 86 has no fp8, which begins with sm 89 \(Ada\); choose int8 or float16$"),
        ((75, 89), "bfloat16", r"^sm 75 \(Turing\) has no bfloat16; leave it out, or choose float16$"),
    ],
)
def test_targets_it_does_not_compile_for(architectures: tuple[int, ...], precision: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        check_architectures(BuildOptions(architectures, precision))


def test_unknown_precision() -> None:
    with pytest.raises(BuildError, match=r"^precision 'int4' is not one of float32, float16, bfloat16, int8, fp8$"):
        BuildOptions(precision="int4")


def test_a_failed_build_leaves_nothing(directory: Path, spec: ModelSpec, tmp_path: Path) -> None:
    """condition is built before denoise fails: both are files, or neither."""
    broken = tmp_path / "model"
    shutil.copytree(directory, broken)
    model = ir.load(broken / "denoise.onnx")
    next(node for node in model.graph if node.op_type == "Sigmoid").op_type = "NoSuchOp"
    ir.save(model, broken / "denoise.onnx")
    (tmp_path / "engines").mkdir()
    with pytest.raises(BuildError, match=r"^denoise\.onnx: TensorRT-RTX 1\.\S+ cannot read it \(.*NoSuchOp"):
        build_rtx(broken, spec, tmp_path / "engines", options=BuildOptions((89,)), progress=Progress())
    assert not list((tmp_path / "engines").iterdir())


def test_other_inputs_than_the_specification_says(directory: Path, spec: ModelSpec, tmp_path: Path) -> None:
    wrong = job(directory, spec, tmp_path)
    wrong = wrong.model_copy(update={"graph": directory / "condition.onnx"})
    with pytest.raises(
        BuildError, match=r"^condition\.onnx: its inputs are not those of model\.json \(attention_scale"
    ):
        build_apart(wrong, lambda _: None)


def test_a_crash_of_the_builder_is_an_error(
    directory: Path, spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = "import os, sys; print('last words', file=sys.stderr, flush=True); os.abort()"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", crash))
    message = r"^denoise\.onnx: the builder of TensorRT-RTX was stopped by SIGABRT\n  last words$"
    with pytest.raises(BuildError, match=message):
        build_apart(job(directory, spec, tmp_path), lambda _: None)


def test_a_full_disk_is_an_error_of_the_output(
    directory: Path, spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (9000, 9000)); "
    code = f"import {process.__name__}; {limited}{process.__name__}.main()"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", code))
    with pytest.raises(OutputError, match=r"\.engine: cannot be written \(File too large\); make room, or .*path$"):
        build_rtx(directory, spec, tmp_path, options=BuildOptions((89,)), progress=Progress())
    assert not list(tmp_path.iterdir())


def test_without_the_wheels_the_error_says_what_to_install(
    directory: Path, spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(package.MODULES, "tensorrt-rtx", ("no_such_module",))
    with pytest.raises(BackendError, match=r"^TensorRT-RTX is not installed; next: pip install 'flagdit\[rtx\]'$"):
        build_apart(job(directory, spec, tmp_path), lambda _: None)


def test_engines_can_be_captured_and_are_not_refitted(directory: Path, spec: ModelSpec, tmp_path: Path) -> None:
    """The flags that decide it; a refittable engine keeps names and copies of its weights."""
    trt = package.import_trt("tensorrt-rtx")
    log = build.make_log(trt)
    builder = trt.Builder(log)
    task = job(directory, spec, tmp_path / "denoise.engine")
    network = build.parse(trt, log, builder, model=build.read_graph(task.graph, "float16"), job=task)
    config = build.configure(trt, builder, network, job=task)
    assert config.get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    assert not config.get_flag(trt.BuilderFlag.REFIT)
