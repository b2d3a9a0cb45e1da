"""A folder for gpu.sh on a machine that has a GPU and reaches no package registry: 55 MB for one architecture.

    python benchmarks/gpu_carry.py carry      # needs flagdit[export,compile], and pip with its registry
    CARRY=carry benchmarks/gpu.sh out         # there: torch with CUDA 13, and what pyproject.toml has but --package

It holds onnxruntime-gpu with the code of that architecture, Python packages that are missing there, the graphs of
gpu_denoise.py, and the demo with engines for the CUDA provider, whose text encoder is replaced by the features of the
prompts. engine/demo itself need not travel.
"""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated
from zipfile import ZipFile

import numpy as np
import typer

import gpu_graphs
from flagdit.engine import Pipeline
from flagdit.engine.bundle.reader import DEMO, MODEL
from gpu_pictures import PROMPTS
from gpu_thin import thin

ONNXRUNTIME = "1.31.1"
# For machine code, and with a window in which two bundles have the same weights.
FILTERS = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 27}]


def fetch(folder: Path, python: str, *what: str) -> list[Path]:
    """Wheels for another Python, on Linux for x86-64."""
    platforms = [f"--platform=manylinux{kind}_x86_64" for kind in ("_2_28", "_2_27", "_2_17", "2014")]
    command = ["download", "-q", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms]
    subprocess.run([sys.executable, "-m", "pip", *command, "-d", folder, *what], check=True)
    return sorted(folder.glob("*.whl"))


def unpack(wheels: list[Path], folder: Path) -> None:
    for wheel in wheels:
        with ZipFile(wheel) as archive:
            archive.extractall(folder)


def write_onnxruntime(site: Path, scratch: Path, arch: int, python: str) -> None:
    """What of the package runs on CUDA: its C library, the module, and the provider with one architecture's code."""
    unpack(fetch(scratch / "wheel", python, "--no-deps", f"onnxruntime-gpu=={ONNXRUNTIME}"), scratch)
    subprocess.run([sys.executable, "-m", "venv", scratch / "tools"], check=True)
    subprocess.run([scratch / "tools/bin/pip", "install", "-q", "nvidia-cuda-cuobjdump"], check=True)
    (cuobjdump,) = [path for path in (scratch / "tools").rglob("cuobjdump") if path.is_file()]
    cuobjdump.chmod(0o755)
    whole, package = scratch / "onnxruntime", site / "onnxruntime"
    (package / "capi").mkdir(parents=True)
    for pattern in ("*.py", "LICENSE", "capi/*.py", "capi/*pybind11*.so", "capi/*shared.so", "capi/libonnxruntime.so*"):
        for path in whole.glob(pattern):
            shutil.copyfile(path, package / path.relative_to(whole))
    provider = "capi/libonnxruntime_providers_cuda.so"
    thin(whole / provider, package / provider, arch, cuobjdump)


def write_bundles(folder: Path, scratch: Path) -> None:
    """The demo for each precision, and the features that its encoder makes of the prompts."""
    encoder = Pipeline.load("demo", device="cpu").stages.text
    np.savez(
        folder / "features.npz", **{f"prompt {i}": encoder.features(text) for i, text in enumerate((*PROMPTS, ""))}
    )
    model = scratch / "model"
    model.mkdir()
    spec = json.loads((DEMO / "manifest.json").read_text())["model"]
    (model / MODEL).write_text(json.dumps({**spec, "texts": []}))
    for name in (
        spec["weights"]["file"],
        *(spec["graphs"][graph]["file"] for graph in ("condition", "place", "denoise")),
    ):
        shutil.copyfile(DEMO / name, model / name)
    for precision in ("float16", "bfloat16"):
        build = ("build", model, "-o", folder / precision, "--target", "onnxruntime-cuda", "--precision", precision)
        subprocess.run([sys.executable, "-c", "from flagdit.engine.cli import main; main()", *build], check=True)


def main(
    output: Annotated[Path, typer.Argument(help="The folder to make; must not exist.")],
    arch: Annotated[int, typer.Option(help="Compute capability, times ten.")] = 90,
    python: Annotated[str, typer.Option(help="The Python there.")] = "3.12",
    package: Annotated[list[str] | None, typer.Option(help="What is missing there.")] = None,
) -> None:
    """Make it."""
    if output.exists():
        raise typer.BadParameter(f"{output} is there already; give another folder, or remove it", param_hint="OUTPUT")
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as text:
        scratch = Path(text)
        carried = scratch / "carried"
        (carried / "site").mkdir(parents=True)
        (scratch / "onnxruntime-gpu").mkdir()
        write_onnxruntime(carried / "site", scratch / "onnxruntime-gpu", arch, python)
        unpack(fetch(scratch / "wheels", python, *(package or ["pydantic"])), carried / "site")
        write_bundles(carried, scratch)
        gpu_graphs.main(carried / "graphs")
        (carried / "graphs" / "demo" / "weights.safetensors").unlink(missing_ok=True)
        with (
            lzma.open(output / "carried.tar.xz", "wb", filters=FILTERS) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            for path in sorted(carried.iterdir()):
                tar.add(path, path.name)
    print(f"wrote {output / 'carried.tar.xz'} ({(output / 'carried.tar.xz').stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    typer.run(main)
