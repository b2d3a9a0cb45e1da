"""A bundle: `manifest.json` and the files it names, checked by the core before any of them is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from flagdit import cpp_ext as core
from flagdit.cpp_ext import Session, Weights, check_manifest, check_model
from flagdit.engine.bundle import regular
from flagdit.engine.bundle.graph_spec import Graph
from flagdit.engine.bundle.json_file import parse_json
from flagdit.engine.bundle.manifest import Engine, Manifest, ModelSpec
from flagdit.engine.cpu import facts
from flagdit.engine.errors import BundleError
from flagdit.engine.session import GraphFile
from flagdit.files import write_file
from flagdit.files.printable import printable

DEMO = Path(__file__).parents[1] / "demo"
MANIFEST, MODEL = "manifest.json", "model.json"
MAX_JSON_BYTES = 16 << 20

S = TypeVar("S", Manifest, ModelSpec)


class Bundle:
    """A directory whose files are what its manifest says. The core reads and checks them."""

    known: int = 0
    """How many files `load` did not read, since they were found right before and have not changed since."""

    def __init__(self, directory: Path, read: core.Bundle) -> None:
        self.directory, self._core = directory, read
        self.manifest: Manifest = _spec(directory / MANIFEST, read.text, Manifest)

    @property
    def name(self) -> str:
        """What a user calls it: the name of its folder, without those above it, as it may reach a terminal."""
        return self._core.name

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
        bundle.known = bundle._core.check()
        return bundle

    @staticmethod
    def verify(path: Path | str, told: Callable[[int, int], object] = lambda _done, _whole: None) -> list[str]:
        """Read every byte of a bundle, whatever is known of it; a line for each file that is not what it should be.

        told: of the bytes that are done, and of how many. What is found right is known then. Raises BundleError if the
        manifest is none. Memory: that of its largest graph, without the weights.
        """
        return core.Bundle.verify(str(_directory(path)), told)

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Open a bundle ("demo" is the one that comes with the package); its files are checked when they are read.

        Raises BundleError if it is missing, of another schema version, or its manifest contradicts itself or the sizes
        of the files.
        """
        directory = _directory(path)
        return cls(directory.absolute(), core.Bundle.open(str(directory)))

    @classmethod
    def of(cls, directory: Path, manifest: Manifest) -> Bundle:
        """A directory with what its manifest would say: while a bundle is made it has none yet. Raises BundleError."""
        return cls(directory, core.Bundle.of(str(directory), manifest.model_dump_json().encode()))

    @property
    def graphs(self) -> list[str]:
        """Names of the files that ONNX Runtime may load."""
        return self._core.graphs

    def path(self, name: str) -> Path:
        return self.directory / name

    def read(self, name: str, limit: int | None = None) -> memoryview:
        """A file's bytes, as the manifest says they are, in memory of this process: whatever becomes of it, they stay.

        Raises BundleError if they are not, or are more than `limit`; BackendError if there is no memory.
        """
        return self._core.read(name, limit)

    def check_engine(self, engine: Engine, session: Session) -> None:
        """Try an engine of `denoise` before it is used, if the bundle has vectors and it needs that.

        Raises BackendError if it computes wrong numbers, BundleError if the vectors are none.
        """
        (described,) = facts([engine])
        self._core.check_engine(described, session)

    def graph(self, name: str, weights: Weights) -> GraphFile:
        """A graph to load, and its weights; weights: those that were read before, to which more are added.

        Of a file that is known to be right only what the graph has in it is read, and not added. Raises BundleError if
        a byte of them is not what the manifest says, or if the graph has weights elsewhere.
        """
        return GraphFile(name, *self._core.graph(name, weights))


def _directory(path: Path | str) -> Path:
    return DEMO if str(path) == "demo" else Path(path)


def read_spec(path: Path, kind: type[S]) -> S:
    """Read and check a manifest.json or model.json. Raises BundleError with the first fault, by its place."""
    content = regular.read(path, MAX_JSON_BYTES)
    check = check_manifest if kind is Manifest else check_model
    check(str(path), content)
    return _spec(path, content, kind)


def _spec(path: Path, content: bytes, kind: type[S]) -> S:
    """What the core has checked, as Python's types. They have the same bounds, so they refuse nothing of it."""
    try:
        return kind.model_validate(parse_json(content, path))
    except ValidationError as error:
        fault = error.errors()[0]
        where, what = ".".join(str(part) for part in fault["loc"]), fault["msg"]
        raise BundleError(f"{path}: {shortened(where)}: {shortened(what)}; rebuild it with flagdit build") from None


def shortened(text: str) -> str:
    """What a manifest holds, on one line and not too long for a message."""
    return printable(text[:200]) + "..." * (len(text) > 200)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write a bundle's manifest, whole or not at all. Raises OutputError."""
    write_file(directory / MANIFEST, manifest.model_dump_json(indent=1) + "\n")


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
