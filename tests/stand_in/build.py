"""Builds the stand-in for CUDA, and for the libraries of it that ONNX Runtime's provider asks for.

    python tests/stand_in/build.py PROVIDER FOLDER    # libonnxruntime_providers_cuda.so, where to

A process that finds FOLDER first (LD_LIBRARY_PATH) runs the real provider and the real kernels' launches without a GPU.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CUDA = Path("/usr/local/cuda/include")


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


def library(folder: Path, soname: str, source: Path, *options: str) -> None:
    command = ["c++" if source.suffix == ".cpp" else "cc", "-shared", "-fPIC", "-O1", "-w", str(source), "-o"]
    subprocess.run([*command, str(folder / soname), f"-Wl,-soname,{soname}", *options], check=True)


def build(provider: Path, folder: Path) -> None:
    """Write the libraries."""
    folder.mkdir(parents=True, exist_ok=True)
    library(folder, "libcudart.so.13", HERE / "cudart.cpp", "-std=c++17", f"-I{CUDA}", "-lpthread")
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
    build(Path(sys.argv[1]), Path(sys.argv[2]))
