"""An export takes the memory of a piece, not of the model: measured in a process of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sparse import write_zeros
from tiny import TINY, random_flag_dit

from flagdit.export import FlagDiT, FlagDiTConfig
from flagdit.export.families.family import shapes_of
from flagdit.export.storage import store
from flagdit.export.tensors import Filed, Held
from flagdit.export.weights import Take, write_weights

EXPORT = """
import resource, sys
from pathlib import Path
from flagdit.export import ExportOptions, FlagDiT, FlagDiTConfig, export_model, open_checkpoint

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

source, folder = map(Path, sys.argv[1:])
tiny = FlagDiTConfig(dim=48, n_layers=2, n_heads=4, patch_size=4, in_channels=3, cap_feat_dim=16, multiple_of=32)
export_model(FlagDiT(tiny), folder.parent / "tiny", ExportOptions(size=(64, 64)))  # what tracing takes for itself
before, said = peak(), []
export_model(open_checkpoint(source), folder, ExportOptions(size=(128, 128)), progress=said.append)
print(before, peak(), next(s for s in reversed(said) if "GB" in s))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
def test_an_export_holds_a_piece_of_the_weights(tmp_path: Path) -> None:
    """Numbers that are 800 MB in fp32, which an exporter that loads them all has in memory at least once."""
    config = FlagDiTConfig(dim=2560, n_layers=2, n_heads=32, cap_feat_dim=2048)
    with torch.device("meta"):
        numbers = write_zeros(tmp_path / "model.safetensors", shapes_of(FlagDiT(config)))
    assert 4 * numbers > 800e6
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    command = [sys.executable, "-c", EXPORT, tmp_path, tmp_path / "out"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, peak, said = done.stdout.split(" ", 2)
    assert int(peak) - int(before) < 250e6, done.stdout
    assert (tmp_path / "out" / "weights.safetensors").stat().st_size > 2 * numbers
    assert said.startswith("weights, ") and "GB" in said


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.bool])
def test_numbers_of_one_byte(tmp_path: Path, kind: torch.dtype, dtype: str) -> None:
    """Of a checkpoint that holds them as they are; torch has neither ends nor magnitudes of all of these."""
    name = "layers.0.attention.wq.weight"
    matrix = torch.tensor([[-128.0, 1, 3], [0, 2, 1]]).to(kind)
    save_file({name: matrix}, tmp_path / "source")
    takes = {name: Take(name)}
    write_weights(tmp_path / "made", {name: (2, 3)}, takes, Filed.open(tmp_path / "source"), dtype)
    expected, made = store({name: matrix.float()}, dtype), load_file(tmp_path / "made")
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[each], expected[each]) for each in expected)


def keep(said: list[tuple[int, int]], done: int, whole: int) -> None:
    said.append((done, whole))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_files_are_those_of_the_safetensors_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """Byte for byte, in pieces of any size; and the digest is the file's."""
    state = random_flag_dit(TINY).state_dict()
    save_file(store(state, dtype), tmp_path / "theirs")
    expected = (tmp_path / "theirs").read_bytes()
    for piece in (7, 1 << 10, 1 << 22):
        monkeypatch.setattr("flagdit.export.weights.PIECE", piece)
        takes = {name: Take(name) for name in state}
        said: list[tuple[int, int]] = []
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        tell = partial(keep, said)
        digest = write_weights(tmp_path / "ours", shapes, takes, Held(state), dtype, progress=tell)
        found = (tmp_path / "ours").read_bytes()
        assert found == expected and digest == hashlib.sha256(found).hexdigest()
        assert said[-1][0] == said[-1][1] and said == sorted(said)


def test_rows_of_a_file_are_read_alone(tmp_path: Path) -> None:
    state = {"a": torch.randn(6, 5), "b": torch.randn(4).bfloat16(), "c": torch.arange(3)}
    save_file(state, tmp_path / "some.safetensors")
    filed = Filed.open(tmp_path / "some.safetensors")
    assert torch.equal(filed.read("a", (2, 5)), state["a"][2:5]) and torch.equal(filed.read("b"), state["b"])
    assert (
        filed.read("c").dtype == torch.int64 and load_file(tmp_path / "some.safetensors").keys() == filed.shapes.keys()
    )
