"""Builds the stand-in for CUDA, and for the libraries of it that ONNX Runtime's provider asks for.

    python tests/stand_in/build.py FOLDER    # which holds the wheel of onnxruntime-gpu

FOLDER/onnxruntime is what the wheel has of libraries, FOLDER/lib the stand-in: a process that finds it first
(LD_LIBRARY_PATH) runs the real provider, and the real kernels are launched, without a GPU.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

HERE = Path(__file__).parent


def needed(provider: Path) -> list[str]:
    """Functions that the provider takes from other libraries."""
    listing = subprocess.run(
        ["nm", "-D", "--undefined-only", str(provider)], capture_output=True, text=True, check=True
    ).stdout
    return [line.split()[-1].split("@")[0] for line in listing.splitlines()]


def stub(name: str) -> str:
    """A function of cuBLAS that computes nothing: a product is a launch."""
    if "GetMathMode" in name:
        return f"int {name}(void* handle, int* mode) {{ return *mode = 0; }}"
    if "GetStatus" in name:
        return f'const char* {name}(int status) {{ return "of the stand-in"; }}'
    if name == "cublasLtMatmulAlgoGetHeuristic":
        arguments = "void* h, void* d, void* a, void* b, void* c, void* e, void* p, int most, void* out, int* count"
        return f"int {name}({arguments}) {{ memset(out, 0, 64); *count = 1; return 0; }}"
    if name.endswith(("Create", "Create_v2")):
        return f"int {name}(void** handle, ...) {{ *handle = malloc(256); return 0; }}"
    if "emm" in name.lower() or "gemv" in name.lower() or name.endswith("Matmul"):
        return f'int {name}() {{ stand_in_launch("{name}"); return 0; }}'
    return f"int {name}() {{ return 0; }}"


def headers() -> Path:
    """Of CUDA's runtime, where its compiler is."""
    nvcc = shutil.which("nvcc")
    places = [Path("/usr/local/cuda"), *([Path(nvcc).resolve().parents[1]] if nvcc else [])]
    return next(place / "include" for place in places if (place / "include" / "cuda_runtime_api.h").is_file())


def unpack(folder: Path) -> Path:
    """The provider, beside the other libraries of the wheel."""
    wheel = next(folder.glob("onnxruntime_gpu-*.whl"))
    with ZipFile(wheel) as archive:
        for name in archive.namelist():
            if ".so" in name and "capi/lib" in name and "tensorrt" not in name:
                archive.extract(name, folder)
    return folder / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"


def library(folder: Path, soname: str, source: Path, *options: str) -> None:
    command = ["c++" if source.suffix == ".cpp" else "cc", "-shared", "-fPIC", "-O1", "-w", str(source), "-o"]
    subprocess.run([*command, str(folder / soname), f"-Wl,-soname,{soname}", *options], check=True)


def build(provider: Path, folder: Path) -> None:
    """Write the libraries."""
    folder.mkdir(parents=True, exist_ok=True)
    library(folder, "libcudart.so.13", HERE / "cudart.cpp", "-std=c++17", f"-I{headers()}", "-lpthread")
    names = needed(provider)
    head = "#include <stdlib.h>\n#include <string.h>\nvoid stand_in_launch(const char*);\n"
    for soname in ("libcublas.so.13", "libcublasLt.so.13"):
        lt = "Lt" in soname
        own = [name for name in names if name.startswith("cublas") and name.startswith("cublasLt") == lt]
        source = folder / f"{soname}.c"
        source.write_text(head + "\n".join(map(stub, own)) + "\n")
        library(folder, soname, source, f"-L{folder}", "-l:libcudart.so.13")
    for soname, body in (("libcurand.so.10", ""), ("libcuda.so.1", "int cuTensorMapEncodeTiled() { return 0; }")):
        source = folder / f"{soname}.c"
        source.write_text(body + "\n")
        library(folder, soname, source)


if __name__ == "__main__":
    build(unpack(Path(sys.argv[1])), Path(sys.argv[1]) / "lib")
