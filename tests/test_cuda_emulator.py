"""The emulator of CUDA finds planted faults: without that, the kernels passing in it would say nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EMULATOR = Path(__file__).parent / "cuda_emulator"


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of faults.cu."""
    compiler, folder = shutil.which("c++"), tmp_path_factory.mktemp("emulator")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    rewritten, program = folder / "faults.cpp", folder / "faults"
    subprocess.run([sys.executable, EMULATOR / "rewrite.py", EMULATOR / "faults.cu", rewritten], check=True)
    sources = [rewritten, *(EMULATOR / f"{name}.cpp" for name in ("block", "runtime", "threads"))]
    command = [compiler, "-std=c++17", "-O1", "-Wall", f"-I{EMULATOR / 'include'}", *sources, "-o", program]
    subprocess.run(command, check=True)
    return program


def run(program: Path, kernel: str, threads: int = 64, seed: int = 0) -> str:
    environment = os.environ | {"FLAGDIT_EMULATOR_SEED": str(seed)}
    command = [program, kernel, str(threads)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment).stdout.strip()


def sums(program: Path, kernel: str, seed: int, threads: int = 64) -> list[int]:
    return [int(word) for word in run(program, kernel, threads, seed).split()]


RIGHT = list(np.cumsum(np.arange(64)))


def test_a_kernel_without_faults_is_right(faults: Path) -> None:
    for seed in range(20):
        assert sums(faults, "right", seed) == RIGHT


@pytest.mark.parametrize("kernel", ["missing_barrier", "wrong_index"])
def test_faults_in_values_are_found(faults: Path, kernel: str) -> None:
    """In any order of the threads, not only in some."""
    assert all(sums(faults, kernel, seed) != RIGHT for seed in range(20))


def test_what_nobody_wrote_is_garbage(faults: Path) -> None:
    first, second = (sums(faults, "read_unwritten", seed) for seed in (0, 1))
    assert first != second and first == sums(faults, "read_unwritten", 0)
    assert sum(value == 0 for value in first) < 4


@pytest.mark.parametrize(
    ("kernel", "threads", "message"),
    [
        ("leave_early", 64, r"LaunchFailure: leave_early: barrier: faults.cu:\d+ is reached by 32 of 64 threads; 32 h"),
        ("part_ways", 64, r"part_ways: barrier: threads of a block wait at faults.cu:\d+ and at faults.cu:\d+"),
        ("shuffle_alone", 64, r"shuffle_alone: warp: faults.cu:\d+ is reached by 31 of 32 lanes"),
        ("take_too_much", 64, r"shared memory: a block takes 65536 bytes, allowed 49152"),
        ("right", 1025, r"cudaErrorInvalidConfiguration: sum_up<true, true>: invalid configuration argument"),
        ("right", 0, r"cudaErrorInvalidConfiguration: sum_up<true, true>: invalid configuration argument"),
    ],
)
def test_what_no_gpu_would_do_is_an_error(faults: Path, kernel: str, threads: int, message: str) -> None:
    for seed in range(5):
        assert re.search(message, run(faults, kernel, threads, seed))
