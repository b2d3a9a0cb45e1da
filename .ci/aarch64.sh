#!/usr/bin/env bash
# Core, library and program for 64-bit ARM, with the CUDA kernels of Jetsons (Orin, Thor), and their tests on the CPU under
# an emulator. ONNX Runtime does not run there: its place in the tests is taken by a session of our own (tests/runtime/toy.h).
set -euo pipefail
cd "$(dirname "$0")/.."
CMAKE=${CMAKE:-.venv/bin/cmake}
if ! command -v aarch64-linux-gnu-g++ > /dev/null || ! command -v qemu-aarch64 > /dev/null; then
  apt-get update -q > /dev/null
  apt-get install -q -y --no-install-recommends g++-aarch64-linux-gnu qemu-user > /dev/null
fi
PATH="$(cd "$(dirname "$CMAKE")" && pwd):$PATH"
export FLAGDIT_AARCH64_CUDA=$PWD/build/aarch64-cuda
.ci/aarch64_cuda.sh "$FLAGDIT_AARCH64_CUDA"
"$CMAKE" -S . -B build/aarch64 -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake -DFLAGDIT_PYTHON=OFF \
  -DFLAGDIT_RUNTIME=ON -DFLAGDIT_WERROR=ON -DCMAKE_UNITY_BUILD=ON -DFLAGDIT_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=87-real;110"
"$CMAKE" --build build/aarch64
ctest --test-dir build/aarch64 --output-on-failure
qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/flagdit_run engine/demo --inspect
qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/flagdit_run engine/demo "a red apple" --plan
