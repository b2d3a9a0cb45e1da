"""Tiny models, exported and built once per session; and the command line."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from records import believed, cache  # noqa: F401 (fixtures)
from tiny import TINY, random_flag_dit, write_text_encoder
from traced import Traced

from flagdit.engine import cli
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.compiler import build_cpu
from flagdit.engine.pipeline import Pipeline
from flagdit.export import ExportOptions, FlagDiT, export_model, onnx_graph


@pytest.fixture(scope="session", autouse=True)
def no_records() -> Iterator[None]:
    """Nothing is written where the user's own runs look for what is known of files (tests/test_file_records.py)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAGDIT_NO_RECORDS", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What two tests of a run export is traced once (tests/traced.py)."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "traced"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graph, "trace", Traced(onnx_graph.trace, folder))
        yield


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_encoder(tmp_path_factory.mktemp("text_encoder"))


@pytest.fixture(scope="session")
def flag_dit() -> FlagDiT:
    return random_flag_dit(TINY)


def tiny_model(directory: Path, flag_dit: FlagDiT, text_encoder: Path, dtype: str) -> Path:
    options = ExportOptions(name="tiny", size=(32, 32), dtype=dtype, text_encoder=text_encoder, max_text_tokens=12)
    export_model(flag_dit, directory, options)
    return directory


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, flag_dit: FlagDiT, text_encoder: Path) -> Path:
    """The tiny model, exported in fp32 so that it can be compared with torch."""
    return tiny_model(tmp_path_factory.mktemp("export") / "model", flag_dit, text_encoder, "float32")


@pytest.fixture(scope="session")
def bundle_dir(model_dir: Path) -> Path:
    directory = model_dir.parent / "bundle"
    build_bundle(model_dir, directory)
    return directory


@pytest.fixture(scope="session")
def pipeline(bundle_dir: Path) -> Pipeline:
    return Pipeline.load(bundle_dir, threads=1)


@pytest.fixture(scope="session")
def model_dir8(tmp_path_factory: pytest.TempPathFactory, flag_dit: FlagDiT, text_encoder: Path) -> Path:
    """The tiny model with its matrices in int8."""
    return tiny_model(tmp_path_factory.mktemp("int8") / "model", flag_dit, text_encoder, "int8")


@pytest.fixture(scope="session")
def bundle8(model_dir8: Path) -> Path:
    directory = model_dir8.parent / "bundle"
    build_bundle(model_dir8, directory, build_cpu)
    return directory


@pytest.fixture(scope="session")
def of_family(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A tiny model of diffusers by the name of its family, and the same exported; each is made once."""
    from diffused import exported

    return functools.cache(lambda name: exported(name, tmp_path_factory.mktemp(name)))


@pytest.fixture
def flagdit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run the command line in an empty folder; returns exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["flagdit", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run
