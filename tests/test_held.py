"""What a bundle's files may refer to, and what becomes of them once they are verified."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile import edit_graph, reseal

from flagdit.engine import Bundle, BundleError, Pipeline, onnx_file
from flagdit.engine.builder import build_bundle
from flagdit.engine.bundle import DEMO, MANIFEST, MODEL
from flagdit.engine.cpu import PRECISIONS, available
from flagdit.engine.session import GraphFile, OnnxSession

PROMPT = "a red apple"


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def external(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]


def entry(tensor: onnx.TensorProto, key: str) -> onnx.StringStringEntryProto:
    return next(entry for entry in tensor.external_data if entry.key == key)


def relocate(location: str) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        entry(external(model)[0], "location").value = location

    return change


def hide(where: str) -> Callable[[onnx.ModelProto], object]:
    """A weight of /etc/passwd in a place that a check of the graph's own initializers would not see."""

    def change(model: onnx.ModelProto) -> None:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(external(model)[0])
        entry(tensor, "location").value = "/etc/passwd"
        node = onnx.helper.make_node("Constant", [], ["hidden"], value=tensor)
        branch = onnx.helper.make_graph([node], "branch", [], [])
        if where == "node":
            model.graph.node.insert(0, node)
        elif where == "subgraph":
            branch.initializer.append(tensor)
            del branch.node[:]
            model.graph.node.insert(0, onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch))
        elif where == "function":
            model.functions.append(onnx.helper.make_function("here", "f", [], ["hidden"], [node], []))
        else:
            model.graph.sparse_initializer.add().values.CopyFrom(tensor)

    return change


def longer(model: onnx.ModelProto) -> None:
    tensor = external(model)[-1]
    entry(tensor, "offset").value = str(1 << 40)


def twice(model: onnx.ModelProto) -> None:
    external(model)[0].external_data.add(key="location", value="/etc/passwd")


OUTSIDE: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "absolute": (relocate("/etc/passwd"), "are in '/etc/passwd', which is no file of the bundle with a digest"),
    "above": (relocate("../secret"), "are in '../secret', which is no file of the bundle"),
    "through a folder": (relocate("./weights.safetensors"), "are in './weights.safetensors', which is no file"),
    "no digest": (relocate("extra.data"), "are in 'extra.data', which is no file of the bundle"),
    "memory": (relocate("*/_ORT_MEM_ADDR_/*"), "which is no file of the bundle"),
    "node": (hide("node"), "a tensor of a node, "),
    "subgraph": (hide("subgraph"), "a tensor of a node, "),
    "function": (hide("function"), "a tensor of a node, "),
    "sparse": (hide("sparse"), "a tensor of a node, "),
    "behind the end": (longer, "behind its end"),
    "two places": (twice, "has two 'location'"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_weights_are_in_the_bundle(flagdit, copy: Path, tmp_path: Path, case: str) -> None:  # type: ignore[no-untyped-def]
    """Whatever the digests say: they are of the attacker's own graph."""
    change, message = OUTSIDE[case]
    edit_graph(copy / "denoise.onnx", change)
    for path in (copy / "extra.data", tmp_path / "secret"):
        shutil.copyfile(copy / "weights.safetensors", path)
    reseal(copy)
    for attempt in (Bundle.load, Pipeline.load, lambda path: build_bundle(path, tmp_path / "out")):
        with pytest.raises(BundleError) as error:
            attempt(copy)
        assert str(error.value).startswith("denoise.onnx: ") and message in str(error.value)
    code, out, _ = flagdit("inspect", copy)
    assert code == 2 and "intact" not in out and not (tmp_path / "out").exists()


def test_the_fields_of_onnx_that_lead_to_tensors() -> None:
    """Against the onnx package's own schema."""
    fields: dict[str, dict[int, str]] = {}

    def visit(message: object) -> None:
        kinds = {field.number: field.message_type for field in message.fields if field.message_type}  # type: ignore[attr-defined]
        if message.name not in fields:  # type: ignore[attr-defined]
            fields[message.name] = {number: kind.name for number, kind in kinds.items()}  # type: ignore[attr-defined]
            for kind in kinds.values():
                visit(kind)

    visit(onnx.ModelProto.DESCRIPTOR)
    reach = {"TensorProto"}
    while more := {name for name, kinds in fields.items() if reach & set(kinds.values())} - reach:
        reach |= more
    leads = {name: {n: kind for n, kind in fields[name].items() if kind in reach} for name in reach - {"TensorProto"}}
    assert {name: dict(parts) for name, parts in onnx_file.PARTS.items()} == leads
    numbers = onnx.TensorProto.DESCRIPTOR.fields_by_name
    names = ("dims", "data_type", "name", "external_data", "data_location")
    ours = ("DIMS", "DATA_TYPE", "NAME", "EXTERNAL_DATA", "DATA_LOCATION")
    assert [numbers[name].number for name in names] == [getattr(onnx_file, name) for name in ours]


@pytest.mark.parametrize("name", ["condition.onnx", "denoise.onnx", "denoise.int8.onnx", "text_encoder.onnx"])
def test_where_weights_are_is_what_onnx_reads(name: str) -> None:
    content = (DEMO / name).read_bytes()
    expected = [
        (tensor.name, *(entry(tensor, key).value for key in ("location", "offset", "length")))
        for tensor in external(onnx.load_model_from_string(content))
    ]
    found = onnx_file.external_tensors(name, content)
    assert [(t.tensor, t.location, str(t.offset), str(t.length)) for t in found] == expected


def test_a_session_keeps_none_of_the_bytes_it_was_given() -> None:
    """So they need not be kept; and none of the files is needed."""
    graph = GraphFile.beside(DEMO / "condition.onnx")
    feeds = {"t": np.array([0.3], np.float32), "text": np.ones((1, 4, 384), np.float32), "text_mask": np.ones((1, 4), "?")}
    expected = OnnxSession(graph, 1).run(feeds)
    buffers = {name: bytearray(content) for name, content in graph.data.items()}
    session = OnnxSession(GraphFile(graph.name, graph.content, buffers), 1)  # type: ignore[arg-type]
    for buffer in buffers.values():
        buffer[:] = bytes(len(buffer))
    for name, values in session.run(feeds).items():
        np.testing.assert_array_equal(values, expected[name])


def paint(pipeline: Pipeline) -> bytes:
    return pipeline(PROMPT, steps=2, size=(32, 32)).latents.tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_loaded_bundle_is_not_its_files_any_more(tmp_path: Path, precision) -> None:  # type: ignore[no-untyped-def]
    """Weights were mapped: a shorter file ended the process, another one changed the picture."""
    copy = Path(shutil.copytree(DEMO, tmp_path / "demo"))
    if precision not in available(Bundle.open(copy).manifest):
        pytest.skip(f"this CPU is not made for {precision}")
    pipeline = Pipeline.load(copy, threads=1, precision=precision)
    before = paint(pipeline)
    for path in copy.iterdir():
        with path.open("r+b") as file:
            file.write(b"\xff" * (path.stat().st_size // 2))
    assert paint(pipeline) == before
    for path in copy.iterdir():
        os.truncate(path, 16)
    assert paint(pipeline) == before


def test_another_precision_is_of_the_same_bundle(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(DEMO, tmp_path / "demo"))
    pipeline = Pipeline.load(copy, threads=1, precision="float32")
    other = next((precision for precision in pipeline.precisions if precision != "float32"), None)
    if other is None:
        pytest.skip("this CPU is made for float32 alone")
    assert pipeline.at(other).stages.text is pipeline.stages.text and pipeline.precision == "float32"
    with (copy / "weights.safetensors").open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(bytes(1000))
    with pytest.raises(BundleError, match="weights.safetensors: damaged, its SHA-256 is not the manifest's"):
        pipeline.at(other)
    shutil.rmtree(copy)
    with pytest.raises(BundleError, match="cannot be read"):
        pipeline.at(other)


@pytest.mark.parametrize("name", ["tokenizer.json", "weights.safetensors", "denoise.onnx"])
def test_build_copies_no_links(model_dir: Path, tmp_path: Path, name: str) -> None:
    """A link in a model that somebody sent would put a file of one's own into the bundle that one publishes."""
    model = Path(shutil.copytree(model_dir, tmp_path / "model"))
    (model / name).rename(tmp_path / "mine")
    (model / name).symlink_to(tmp_path / "mine")
    with pytest.raises(BundleError, match=f"{name}: is a link, whose target is not copied; put the file itself there"):
        build_bundle(model, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "mine"}


def test_links_in_a_bundle_are_followed_to_what_its_digests_say(copy: Path, tmp_path: Path) -> None:
    """As some stores keep files: content is checked, so it does not matter where it lies."""
    for path in list(copy.iterdir()):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    paint(Pipeline.load(copy, threads=1))
    build_bundle(copy, tmp_path / "out")
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", [MANIFEST, MODEL, "tokenizer.json", "denoise.onnx", "weights.safetensors"])
@pytest.mark.parametrize("change", [pipe, endless, folder])
def test_only_regular_files_are_read(
    bundle_dir: Path, model_dir: Path, tmp_path: Path, change: Callable[[Path], None], name: str
) -> None:
    """A pipe would wait for ever, a device never end."""
    source, load = (model_dir, lambda path: build_bundle(path, tmp_path / "out"))
    if name != MODEL:
        source, load = bundle_dir, Bundle.load  # type: ignore[assignment]
    directory = Path(shutil.copytree(source, tmp_path / "copy"))
    change(directory / name)
    with pytest.raises(BundleError):
        load(directory)


@pytest.mark.parametrize("content", [b" " * (17 << 20), b"[" * 100_000, b'{"schema_version": 1' + b"0" * 5000 + b"}"])
def test_a_manifest_is_bounded_before_it_is_read(copy: Path, content: bytes) -> None:
    (copy / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json: (larger than|nested too deeply|not JSON)"):
        Bundle.load(copy)


def test_two_digests_of_the_weights_are_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["model"]["weights"]["sha256"] = "0" * 64
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="two digests of weights.safetensors"):
        Bundle.open(copy)
