"""The self-test of an engine: what passes, and which faults of a compiler are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flagdit.cpp_ext import Port, Session, Weights, check_selftest
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.bundle.selftest import SELFTEST
from flagdit.engine.compiler import build_cuda
from flagdit.engine.errors import BackendError, BundleError
from flagdit.engine.session import open_session

Arrays = dict[str, np.ndarray]
PRECISIONS = ("float32", "float16", "bfloat16", "int8", "int8-bf16", "fp8")


class Faulty:
    """A session that does something to what goes in, or to what comes out."""

    def __init__(
        self,
        session: Session,
        precision: str = "bfloat16",
        *,
        given: Callable[[Arrays], Any] = dict,
        made: Callable[[Arrays], Any] = dict,
    ) -> None:
        self.session, self.precision, self.given, self.made = session, precision, given, made
        self.name = "denoise.faulty.onnx"

    @property
    def ports(self) -> list[Port]:
        return self.session.ports

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        made: Mapping[str, np.ndarray] = self.made(dict(self.session.run(self.given(dict(inputs)))))
        return made


def changed(word: str, change: Callable[[np.ndarray], np.ndarray], arrays: Arrays) -> Arrays:
    assert any(word in name for name in arrays)
    return {n: np.ascontiguousarray(change(a)) if word in n else a for n, a in arrays.items()}


@pytest.fixture(scope="module")
def bundle(model_dir: Path) -> Bundle:
    build_bundle(model_dir, model_dir.parent / "tested", partial(build_cuda, precision="float16"))
    return Bundle.load(model_dir.parent / "tested")


@pytest.fixture(scope="module")
def denoise(bundle: Bundle) -> Session:
    return open_session(bundle.graph(bundle.model.graphs.denoise.file, Weights()), 1)


def test_the_vectors_are_of_the_bundle(bundle: Bundle) -> None:
    """With a digest; they open anywhere that reads safetensors; a bundle for CPUs alone has none."""
    from safetensors.numpy import load_file

    assert SELFTEST in bundle.manifest.files
    kept, graph = load_file(bundle.path(SELFTEST)), bundle.model.graphs.denoise
    assert {name for name in kept if name.startswith("input.")} == {f"input.{port.name}" for port in graph.inputs}
    assert len(kept) == len(graph.inputs) + 3 * len(graph.outputs)
    assert all(np.isfinite(value.astype(np.float32)).all() for value in kept.values())
    assert SELFTEST not in Bundle.load("demo").manifest.files


def test_the_exported_graph_and_the_half_engine_pass(bundle: Bundle, denoise: Session) -> None:
    test, engine = bundle.read(SELFTEST), bundle.manifest.engines[0]
    check_selftest(denoise, test)
    check_selftest(open_session(bundle.graph(engine.file, Weights()), 1, "float16"), test)


def heads_turned(values: np.ndarray) -> np.ndarray:
    """(.., G, d) as if it lay as (.., d, G)."""
    return np.swapaxes(values, -1, -2).reshape(values.shape)


GIVEN: dict[str, Callable[[Arrays], Arrays]] = {
    "transposed heads": partial(changed, "key_tail", heads_turned),
    "tail ignored": partial(changed, "_tail", np.zeros_like),
    "scale missing": partial(changed, "attention_scale", np.ones_like),
    "text that is not masked": partial(changed, "text_bias", np.zeros_like),
    "rows swapped": partial(changed, "modulation", lambda x: x[::-1]),
    "angles left out": partial(changed, "rope_sin", np.zeros_like),
}
MADE: dict[str, Callable[[Arrays], Arrays]] = {
    "transposed heads": partial(changed, "key_head", heads_turned),
    "a cache that is not written": partial(changed, "value_head.1", np.zeros_like),
    "no number": partial(changed, "velocity", lambda x: np.where(x == x.flat[0], np.nan, x)),
    "nothing but zeros": partial(changed, "velocity", np.zeros_like),
    "another shape": partial(changed, "velocity", lambda x: x[:, :, :-1]),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("fault", GIVEN)
def test_faults_of_what_is_read_are_refused(bundle: Bundle, denoise: Session, fault: str, precision: str) -> None:
    test = bundle.read(SELFTEST)
    small = {"text that is not masked": ("bfloat16", "int8", "int8-bf16", "fp8")}
    small["angles left out"] = small["text that is not masked"][1:]
    if precision in small.get(fault, ()):
        pytest.skip("a fault as small as the rounding")
    with pytest.raises(
        BackendError, match=r"denoise\.faulty\.onnx .* computes wrong numbers: .* off with .* allowed is"
    ):
        check_selftest(Faulty(denoise, precision, given=GIVEN[fault]), test)


@pytest.mark.parametrize("fault", MADE)
def test_faults_of_what_is_written_are_refused(bundle: Bundle, denoise: Session, fault: str) -> None:
    test = bundle.read(SELFTEST)
    with pytest.raises(BackendError, match=r"wrong numbers|of another shape"):
        check_selftest(Faulty(denoise, made=MADE[fault]), test)


def changed_file(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content and len(old) == len(new)
    return content.replace(old, new, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"12345678",
        lambda _: b"\x02" + bytes(7) + b"{}",
        lambda _: b"\x02" + bytes(7) + b"[]",
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: content[:-1],
        lambda content: changed_file(content, b'"F32"', b'"F99"'),
        lambda content: changed_file(content, b'"shape": [', b'"shape": -'),
        lambda content: changed_file(content, b"A12.M0", b"A-2.M0"),
        lambda content: changed_file(content, b"A12.M0", b"A13.M0"),
        lambda content: content.replace(b"A5.M7.R2.", b"A4.M8.R1."),
        lambda content: changed_file(content, b'"input.tokens"', b'"input.tokenz"'),
    ],
)
def test_a_damaged_file_is_refused(bundle: Bundle, denoise: Session, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(BundleError, match=SELFTEST):
        check_selftest(denoise, change(bytes(bundle.read(SELFTEST))))


def test_an_engine_is_tried_when_a_bundle_is_loaded(bundle: Bundle, denoise: Session) -> None:
    """... by Python and by the runtime alike: both ask the core."""
    engine = bundle.manifest.engines[0]
    bundle.check_engine(engine, denoise)
    faulty: Any = Faulty(denoise, made=MADE["nothing but zeros"])
    with pytest.raises(BackendError, match="computes wrong numbers"):
        bundle.check_engine(engine, faulty)
    bundle.check_engine(engine.model_copy(update={"target": "onnxruntime"}), faulty)


def test_a_text_that_rests_is_tried(of_family: Callable[[str], tuple[Any, Path]], tmp_path: Path) -> None:
    """An engine may go wrong where an input has no value at all."""
    build_bundle(of_family("sd3.5")[1], tmp_path / "tested", partial(build_cuda, precision="float16"))
    bundle = Bundle.load(tmp_path / "tested")
    test, engine = bundle.read(SELFTEST), bundle.manifest.engines[0]
    denoise = open_session(bundle.graph(bundle.model.graphs.denoise.file, Weights()), 1)
    check_selftest(denoise, test)
    check_selftest(open_session(bundle.graph(engine.file, Weights()), 1, "float16"), test)

    def rows_lost(given: Arrays) -> Arrays:
        return given if given["text_start"].size else changed("value_tail.1", np.zeros_like, given)

    with pytest.raises(BackendError, match=r"with 5 active and 7 cached tokens and no text in 2 rows"):
        check_selftest(Faulty(denoise, given=rows_lost), test)
    with pytest.raises(BundleError, match="a case is missing"):
        check_selftest(denoise, bytes(test).replace(b".R2.T0.", b".R2.T1."))
