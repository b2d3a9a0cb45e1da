#!/usr/bin/env bash
# One command for a machine with a GPU: builds the kernels for it and holds them to the CPU's tests; writes gpu.json.
# Needs nvcc, and a torch with CUDA to hold the arrays. Not run on a GPU yet (docs/gpu-status.md).
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-out}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out" build/gpu/flagdit/cpp_ext
cp cpp_ext/*.py build/gpu/flagdit/cpp_ext/
cmake -S . -B build/gpu -G Ninja -DFLAGDIT_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native \
  -DPython_EXECUTABLE="$("$python" -c 'import sys; print(sys.executable)')" \
  -DFLAGDIT_PYTHON_OUTPUT_DIR="$PWD/build/gpu/flagdit/cpp_ext"
cmake --build build/gpu --target _ext
tests=(tests/test_{advance,history,solvers,select,repartition,regions}.py)
start=$SECONDS
PYTHONPATH=build/gpu "$python" -m pytest -q --noconftest --junitxml="$out/gpu-tests.xml" "${tests[@]}"
device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1)
nvcc=$(nvcc --version | grep release)
"$python" - "$out/gpu.json" "$device" "$nvcc" "$((SECONDS - start))" "$(git rev-parse HEAD)" <<'PY'
import json
import sys

path, device, nvcc, seconds, commit = sys.argv[1:]
facts = {"command": "benchmarks/gpu.sh", "device": device, "nvcc": nvcc, "test_seconds": int(seconds), "commit": commit}
open(path, "w").write(json.dumps(facts, indent=1) + "\n")
PY
echo "wrote $out/gpu.json and $out/gpu-tests.xml"
