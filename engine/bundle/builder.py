"""Model directory -> bundle: the files, the engines built from its graphs, and the manifest over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from flagdit.cpp_ext import external_files
from flagdit.engine.bundle import regular
from flagdit.engine.bundle.manifest import SCHEMA_VERSION, Engine, File, Manifest, ModelSpec
from flagdit.engine.bundle.reader import MANIFEST, MODEL, Bundle, graph_files, model_files, read_spec
from flagdit.engine.bundle.selftest import SELFTEST, needs_selftest, write_selftest
from flagdit.engine.bundle.selftest_vectors import make_selftest
from flagdit.engine.bundle.trial import try_text
from flagdit.engine.bundle.weights import check_weights
from flagdit.engine.errors import BundleError
from flagdit.engine.version import version_of
from flagdit.files import check_folder, whole_folder

EngineBuilder = Callable[[Path, ModelSpec, Path], list[Engine]]
"""Builds the engines of a model directory into another directory, and describes them."""


def build_bundle(
    source: Path | str,
    output: Path,
    build_engines: EngineBuilder | None = None,
    *,
    check: Callable[[ModelSpec], None] = lambda _: None,
) -> Manifest:
    """Write a bundle, or nothing: its files are made in a folder of their own in `output`, and move when all are whole.

    source: a model directory, or another bundle (or "demo"), whose engines are left behind. Without `build_engines`
    the bundle runs in ONNX Runtime. check: refuses what cannot be built, before anything is copied.

    Raises BundleError if `source` is damaged or neither of both, OutputError if `output` holds anything, is written by
    another process or cannot be written, BuildError if there is no engine, if a weight is no number, or if the text
    encoder fails at the longest prompt.
    """
    check_folder(output, MANIFEST)
    model_dir, spec, digests = read_source(source)
    check(spec)
    with whole_folder(output, MANIFEST) as folder:
        copy_model(model_dir, spec, digests, target=folder)
        check_weights(folder / spec.weights.file)
        try_text(folder, spec)
        engines = build_engines(folder, spec, folder) if build_engines else []  # what was checked, and none else
        if any(map(needs_selftest, engines)):
            write_selftest(folder / SELFTEST, make_selftest(folder, spec))
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            flagdit=version_of("flagdit"),
            model=spec,
            files={path.name: regular.digest(path) for path in sorted(folder.iterdir())},
            engines=tuple(engines),
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return manifest


def read_source(source: Path | str) -> tuple[Path, ModelSpec, Mapping[str, File] | None]:
    """The directory with a model's files, its specification and, of a bundle, what the files should be."""
    if str(source) == "demo" or (Path(source) / MANIFEST).is_file():
        bundle = Bundle.open(source)
        return bundle.directory, bundle.model, bundle.manifest.files
    return Path(source), read_model(Path(source)), None


def read_model(directory: Path) -> ModelSpec:
    """The specification of a model directory whose files are all there. Raises BundleError."""
    if not (directory / MODEL).is_file():
        raise BundleError(f"{directory}: no model directory, it has no {MODEL}; make one with: flagdit export")
    spec = read_spec(directory / MODEL, ModelSpec)
    missing = [name for name in model_files(spec) if not (directory / name).is_file()]
    if missing:
        raise BundleError(f"{directory}: {', '.join(missing)} missing; export the model again")
    return spec


def copy_model(directory: Path, spec: ModelSpec, digests: Mapping[str, File] | None, *, target: Path) -> None:
    """Copy a model's files, and check the copies. Raises BundleError.

    digests: of a bundle's files. Without them a file may be no link, or it would bring into the bundle whatever the
    link leads to.
    """
    copied = {name: regular.copy(directory / name, target / name, digests is not None) for name in model_files(spec)}
    if digests is not None:
        for name, file in copied.items():
            regular.check_same(directory / name, file, digests[name])
    if copied[spec.weights.file].sha256 != spec.weights.sha256:
        raise BundleError(f"{directory}: {spec.weights.file} is not what was exported; export the model again")
    sizes = {name: file.bytes for name, file in copied.items()}
    for name in graph_files(spec):
        external_files(name, regular.read(target / name, regular.MAX_GRAPH_BYTES), sizes)
