"""A bundle: `manifest.json` and the files it names, checked before any of them is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from flagdit.engine.errors import BundleError
from flagdit.engine.manifest import SCHEMA_VERSION, File, Manifest, ModelSpec, Spec
from flagdit.files import write_file

DEMO = Path(__file__).with_name("demo")
MANIFEST, MODEL = "manifest.json", "model.json"
MAX_JSON_BYTES = 16 << 20

S = TypeVar("S", bound=Spec)


class Bundle:
    """A directory whose files are what its manifest says."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory, self.manifest = directory, manifest

    @property
    def model(self) -> ModelSpec:
        return self.manifest.model

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Open a bundle ("demo" is the one that comes with the package) and check every byte of it.

        Raises BundleError if it is missing, damaged, or of another schema version.
        """
        directory = DEMO if str(path) == "demo" else Path(path)
        if not directory.is_dir():
            raise BundleError(f"{path}: no such bundle directory; make one with: flagdit build MODEL -o {path}")
        if (directory / MODEL).is_file() and not (directory / MANIFEST).is_file():
            raise BundleError(f"{path}: a model directory, not a bundle yet; next: flagdit build {path} -o BUNDLE")
        manifest = read_spec(directory / MANIFEST, Manifest)
        for name, expected in manifest.files.items():
            check_file(directory / name, expected)
        unlisted = {name for name in _named_files(manifest) if name not in manifest.files}
        if unlisted:
            raise BundleError(f"{path}: {MANIFEST} uses {', '.join(sorted(unlisted))} without a digest; rebuild it")
        return cls(directory, manifest)

    def path(self, name: str) -> Path:
        return self.directory / name


def read_spec(path: Path, kind: type[S]) -> S:
    """Read and validate a manifest.json or model.json. Raises BundleError with the first fault, by its place."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise BundleError(f"{path}: larger than {MAX_JSON_BYTES} bytes; this is no {path.name}")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); is this a bundle?") from None
    except ValueError as error:
        raise BundleError(f"{path}: not JSON ({error}); rebuild the bundle") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema version {version!r}; this flagdit reads {SCHEMA_VERSION}: "
            "rebuild with flagdit build, or install the flagdit that wrote it"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise BundleError(f"{path}: {where}: {fault['msg']}; rebuild it with flagdit build") from None


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write a bundle's manifest, whole or not at all. Raises OutputError."""
    write_file(directory / MANIFEST, manifest.model_dump_json(indent=1) + "\n")


def check_file(path: Path, expected: File) -> None:
    """Raise BundleError unless the file has the size and the digest it should have."""
    if not path.is_file():
        raise BundleError(f"{path}: missing from the bundle; copy it again, or rebuild with flagdit build")
    size = path.stat().st_size
    if size != expected.bytes:
        raise BundleError(f"{path}: {size} bytes instead of {expected.bytes}; copy it again, or rebuild")
    if digest(path).sha256 != expected.sha256:
        raise BundleError(f"{path}: damaged, its SHA-256 is not the manifest's; copy it again, or rebuild")


def digest(path: Path) -> File:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return File(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size)


def _named_files(manifest: Manifest) -> Iterator[str]:
    model = manifest.model
    graphs = model.graphs
    yield model.weights.file
    yield from (g.file for g in (graphs.condition, graphs.denoise, graphs.text_encoder, graphs.decode) if g)
    yield from (engine.file for engine in manifest.engines)
    if model.text is not None:
        yield model.text.tokenizer
