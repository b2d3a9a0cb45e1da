"""A bundle: `manifest.json` and the files it names, checked before any of them is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from flagdit import cpp_ext as core
from flagdit.cpp_ext import Session, check_selftest
from flagdit.engine.bundle import regular
from flagdit.engine.bundle.contract import check_denoise, check_spec
from flagdit.engine.bundle.graph_spec import Graph
from flagdit.engine.bundle.json_file import parse_json
from flagdit.engine.bundle.manifest import SCHEMA_VERSION, Engine, Manifest, ModelSpec
from flagdit.engine.bundle.onnx_file import MAX_GRAPH_BYTES, External, check_external, external_tensors
from flagdit.engine.bundle.selftest import SELFTEST, needs_selftest
from flagdit.engine.bundle.spec import Spec
from flagdit.engine.errors import BundleError
from flagdit.engine.session import Bytes, GraphFile
from flagdit.files import write_file
from flagdit.files.printable import printable

DEMO = Path(__file__).parents[1] / "demo"
MANIFEST, MODEL = "manifest.json", "model.json"
MAX_JSON_BYTES = 16 << 20

S = TypeVar("S", bound=Spec)


class Bundle:
    """A directory whose files are what its manifest says."""

    known: int = 0
    """How many files `load` did not read, since they were found right before and have not changed since."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory, self.manifest = directory, manifest

    @property
    def name(self) -> str:
        """What a user calls it: "demo", or the name of its folder, without those above it."""
        return "demo" if self.directory == DEMO else self.directory.resolve().name

    @property
    def model(self) -> ModelSpec:
        return self.manifest.model

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Open a bundle and check every file of it, and where each of its graphs has its weights. Raises BundleError.

        A large file that was found right before, and has not changed since, counts as right (docs/trust.md). Memory:
        that of its largest graph, without the weights.
        """
        bundle = cls.open(path)
        for name, expected in bundle.manifest.files.items():
            if name not in bundle.graphs and not regular.check(bundle.path(name), expected):
                bundle.known += 1
        for name in bundle.graphs:
            bundle.check_graph(name, bundle.read(name, MAX_GRAPH_BYTES))
        return bundle

    @staticmethod
    def verify(path: Path | str, told: Callable[[int, int], object] = lambda _done, _whole: None) -> list[str]:
        """Read every byte of a bundle, whatever is known of it; a line for each file that is not what it should be.

        told: of the bytes that are done, and of how many. What is found right is known then. Raises BundleError if the
        manifest is none. Memory: that of its largest graph, without the weights.
        """
        return core.Bundle.verify(str(DEMO if str(path) == "demo" else path), told)

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Open a bundle ("demo" is the one that comes with the package); its files are checked when they are read.

        Raises BundleError if it is missing, of another schema version, or its manifest contradicts itself or the sizes
        of the files.
        """
        directory = DEMO if str(path) == "demo" else Path(path).absolute()
        if directory.is_file():
            raise BundleError(f"{path}: is a file and no bundle; give the bundle's folder")
        if not directory.is_dir():
            raise BundleError(f"{path}: no such bundle directory; make one with: flagdit build MODEL -o {path}")
        if (directory / MODEL).is_file() and not (directory / MANIFEST).is_file():
            raise BundleError(f"{path}: a model directory, not a bundle yet; next: flagdit build {path} -o BUNDLE")
        manifest = read_spec(directory / MANIFEST, Manifest)
        unlisted = {name for name in _named_files(manifest) if name not in manifest.files}
        if unlisted:
            raise BundleError(f"{path}: {MANIFEST} uses {', '.join(sorted(unlisted))} without a digest; rebuild it")
        weights = manifest.model.weights
        if manifest.files[weights.file].sha256 != weights.sha256:
            raise BundleError(f"{path}: {MANIFEST} has two digests of {weights.file}; rebuild it")
        for name, expected in manifest.files.items():
            regular.check_size(directory / name, expected)
        for number, engine in enumerate(manifest.engines):
            if engine.target.startswith("onnxruntime") and engine.graph == "denoise":
                place = f"{directory / MANIFEST}: engines.{number}"
                check_denoise(place, manifest.model, engine.inputs, outputs=engine.outputs)
        return cls(directory, manifest)

    @property
    def graphs(self) -> list[str]:
        """Names of the files that ONNX Runtime may load."""
        engines = [engine.file for engine in self.manifest.engines if engine.target.startswith("onnxruntime")]
        return list(dict.fromkeys([*graph_files(self.model), *engines]))

    def path(self, name: str) -> Path:
        return self.directory / name

    def read(self, name: str, limit: int | None = None) -> memoryview:
        """A file's bytes, as the manifest says they are. See regular.verified for what it raises, and `limit`."""
        return regular.verified(self.path(name), self.manifest.files[name], limit)

    def check_engine(self, engine: Engine, session: Session) -> None:
        """Try an engine of `denoise` before it is used, if the bundle has vectors and it needs that.

        Raises BackendError if it computes wrong numbers, BundleError if the vectors are none.
        """
        if needs_selftest(engine) and SELFTEST in self.manifest.files:
            check_selftest(session, self.read(SELFTEST))

    def check_graph(self, name: str, content: Bytes) -> list[External]:
        """What a graph has in other files. Raises BundleError if one is not of the bundle."""
        sizes = {name: file.bytes for name, file in self.manifest.files.items()}
        tensors = external_tensors(name, content)
        check_external(name, tensors, sizes)
        return tensors

    def graph(self, name: str, weights: dict[str, Bytes]) -> GraphFile:
        """A graph to load, and its weights; weights: those that were read before, to which more are added.

        Of a file that is known to be right only what the graph has in it is read, and not added. Raises BundleError if
        a byte of them is not what the manifest says.
        """
        content = self.read(name, MAX_GRAPH_BYTES)
        parts: dict[str, list[tuple[int, int]]] = {}
        for tensor in self.check_graph(name, content):
            parts.setdefault(tensor.location, []).append((tensor.offset, tensor.length))
        return GraphFile(name, content, {file: self._weights(file, parts[file], weights) for file in parts})

    def _weights(self, name: str, parts: list[tuple[int, int]], weights: dict[str, Bytes]) -> Bytes:
        if name not in weights:
            known = regular.known_parts(self.path(name), self.manifest.files[name], parts)
            if known is not None:
                return known
            weights[name] = self.read(name)
        return weights[name]


def read_spec(path: Path, kind: type[S]) -> S:
    """Read and validate a manifest.json or model.json. Raises BundleError with the first fault, by its place."""
    content = parse_json(regular.read(path, MAX_JSON_BYTES), path)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        shown = repr(version) if isinstance(version, str | int | float | None) else type(version).__name__
        again = (
            "flagdit export CHECKPOINT -o MODEL, then flagdit build MODEL -o BUNDLE"
            if kind is Manifest
            else "flagdit export CHECKPOINT -o MODEL"
        )
        raise BundleError(
            f"{path}: schema version {shortened(shown)}; this flagdit reads {SCHEMA_VERSION}: make it again with "
            f"{again}, or install the flagdit that wrote it"
        )
    try:
        spec = kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where, what = ".".join(str(part) for part in fault["loc"]), fault["msg"]
        raise BundleError(f"{path}: {shortened(where)}: {shortened(what)}; rebuild it with flagdit build") from None
    model = spec.model if isinstance(spec, Manifest) else spec
    if isinstance(model, ModelSpec):
        check_spec(path, model)
    return spec


def shortened(text: str) -> str:
    """What a manifest holds, on one line and not too long for a message."""
    return printable(text[:200]) + "..." * (len(text) > 200)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write a bundle's manifest, whole or not at all. Raises OutputError."""
    write_file(directory / MANIFEST, manifest.model_dump_json(indent=1) + "\n")


def _named_files(manifest: Manifest) -> Iterator[str]:
    yield from model_files(manifest.model)
    yield from (engine.file for engine in manifest.engines)


def graph_files(spec: ModelSpec) -> list[str]:
    """Names of a model's graphs."""
    return [graph.file for graph in _graphs(spec)]


def _graphs(spec: ModelSpec) -> list[Graph]:
    g = spec.graphs
    graphs = (g.condition, g.place, g.denoise, g.decode, g.encode, g.preview, *(text.graph for text in spec.texts))
    return [graph for graph in graphs if graph is not None]


def model_files(spec: ModelSpec) -> list[str]:
    """Names of the files that a model consists of, besides model.json."""
    names = [spec.weights.file, *graph_files(spec)]
    names += [graph.weights for graph in _graphs(spec) if graph.weights is not None]
    return list(dict.fromkeys([*names, *(text.tokenizer for text in spec.texts)]))
