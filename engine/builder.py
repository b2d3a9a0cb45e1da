"""Model directory -> bundle: the files, the engines built from its graphs, and the manifest over all of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from flagdit.engine.bundle import MANIFEST, MODEL, Bundle, digest, read_spec
from flagdit.engine.errors import BundleError
from flagdit.engine.manifest import SCHEMA_VERSION, Engine, Manifest, ModelSpec
from flagdit.files import check_folder, whole_folder

EngineBuilder = Callable[[Path, ModelSpec, Path], list[Engine]]
"""Builds the engines of a model directory into another directory, and describes them."""


def build_bundle(source: Path | str, output: Path, build_engines: EngineBuilder | None = None) -> Manifest:
    """Write a bundle, or nothing: its files are made in a folder of their own in `output`, and move when all are whole.

    source: a model directory, or another bundle (or "demo"), whose engines are left behind. Without `build_engines`
    the bundle runs in ONNX Runtime. Raises BundleError if `source` is damaged or neither of both, OutputError if
    `output` holds anything, is written by another process or cannot be written, BuildError if there is no engine.
    """
    check_folder(output, MANIFEST)
    model_dir, spec = read_source(source)
    with whole_folder(output, MANIFEST) as folder:
        for name in model_files(spec):
            copy(model_dir / name, folder / name)
        engines = build_engines(model_dir, spec, folder) if build_engines else []
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            flagdit=version("flagdit"),
            model=spec,
            files={path.name: digest(path) for path in sorted(folder.iterdir())},
            engines=tuple(engines),
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return manifest


def copy(source: Path, target: Path) -> None:
    """Copy a file. Raises BundleError if it cannot be read, OSError if it cannot be written."""
    try:
        file = source.open("rb")
    except OSError as error:
        raise BundleError(f"{source}: cannot be read ({error.strerror})") from None
    with file, target.open("wb") as copied:
        shutil.copyfileobj(file, copied, 1 << 20)


def read_source(source: Path | str) -> tuple[Path, ModelSpec]:
    """The directory with a model's files, and its specification."""
    if str(source) == "demo" or (Path(source) / MANIFEST).is_file():
        bundle = Bundle.load(source)
        return bundle.directory, bundle.model
    return Path(source), read_model(Path(source))


def read_model(directory: Path) -> ModelSpec:
    """The specification of a model directory whose files are all there. Raises BundleError."""
    if not (directory / MODEL).is_file():
        raise BundleError(f"{directory}: no model directory, it has no {MODEL}; make one with: flagdit export")
    spec = read_spec(directory / MODEL, ModelSpec)
    missing = [name for name in model_files(spec) if not (directory / name).is_file()]
    if missing:
        raise BundleError(f"{directory}: {', '.join(missing)} missing; export the model again")
    if digest(directory / spec.weights.file).sha256 != spec.weights.sha256:
        raise BundleError(f"{directory}: {spec.weights.file} is not what was exported; export the model again")
    return spec


def model_files(spec: ModelSpec) -> list[str]:
    """Names of the files that a model consists of, besides model.json."""
    graphs = (spec.graphs.condition, spec.graphs.denoise, spec.graphs.text_encoder, spec.graphs.decode)
    names = [spec.weights.file, *(graph.file for graph in graphs if graph is not None)]
    return names if spec.text is None else [*names, spec.text.tokenizer]
