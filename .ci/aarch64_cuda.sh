#!/usr/bin/env bash
# .ci/aarch64_cuda.sh FOLDER: lays out a CUDA toolkit that compiles here for 64-bit ARM: the nvcc of this machine, and the
# headers and libraries of the runtime of its release, from the package that is made for ARM.
set -euo pipefail
folder=$1
nvcc=$(nvcc -dryrun -x cu -c /dev/null 2>&1 | sed -n 's/^#\$ _HERE_=//p')
release=$(nvcc --version | sed -n 's/.*release \([0-9]*\.[0-9]*\).*/\1/p')
target=$folder/targets/aarch64-linux
if [ -f "$target/lib/libcudart_static.a" ]; then exit; fi
rm -rf "$folder" && mkdir -p "$folder/bin" "$target"
ln -s "$nvcc"/* "$folder/bin/" && rm "$folder/bin/nvcc" && cp "$nvcc/nvcc" "$folder/bin/"  # it looks beside itself
ln -s "$(readlink -f "$nvcc/../nvvm")" "$folder/nvvm"
cp -rL "$nvcc/../include" "$target/include"  # those of the compiler's own are the same for all processors
python=${PYTHON:-.venv/bin/python}
"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --platform manylinux2014_aarch64 \
  -d "$folder/wheels" "nvidia-cuda-runtime==$release.*"
"$python" -m zipfile -e "$folder"/wheels/*.whl "$folder/wheels"
cp -r "$folder"/wheels/nvidia/cu*/include/. "$target/include"
cp -r "$folder"/wheels/nvidia/cu*/lib "$target/lib"
ln -s "$(cd "$target/lib" && echo libcudart.so.*)" "$target/lib/libcudart.so"
