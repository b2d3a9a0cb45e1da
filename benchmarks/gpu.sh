#!/usr/bin/env bash
# One command for a machine with a GPU: builds the kernels for it, holds them to the CPU's tests, lets compute-sanitizer
# look at some of them, and times kernels and engine steps. Ten minutes at most; writes OUT/gpu.json, and a log a part.
#
#     PYTHON=python3 benchmarks/gpu.sh [OUT [PART...]]
#
# Parts: configure build device engines tests pictures memcheck racecheck kernels denoise steps randn; all by default. Without configure
# and build, what they left in build/gpu is used. Needs nvcc, and a torch with CUDA to hold the arrays. ORT_SITE: a
# folder to import onnxruntime-gpu from, if it is not installed; BUNDLES: that paint, the demo if there are none; GRAPHS: what
# gpu_graphs.py wrote, for denoise. TENSORRT_INCLUDE_DIR: NVIDIA's headers, for the backend of TensorRT in C++; where a Python
# package of TensorRT or TensorRT-RTX is installed, engines of the demo in float16, int8 and fp8 are built, for 64x64, and painted with. CARRY: a folder that gpu_carry.py made, which has all three.
# A part that fails or is not possible is written down and the rest goes on; the exit status is 1 if any failed.
# docs/gpu-status.md has what it found.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
out=${1:-out}
(($# == 0)) || shift
wanted=" ${*:-configure build device engines tests pictures memcheck racecheck kernels denoise steps randn} "
python=${PYTHON:-.venv/bin/python}
home=build/gpu/flagdit # `flagdit` with these kernels, whatever is installed
parts=$out/gpu-parts.tsv
mkdir -p "$out" "$home/cpp_ext" "build/gpu/flagdit-0.dist-info"
rm -f "$out"/gpu-*
printf 'Metadata-Version: 2.1\nName: flagdit\nVersion: 0\n' >build/gpu/flagdit-0.dist-info/METADATA # nothing is installed
cp cpp_ext/*.py "$home/cpp_ext/"
ln -sfn "$PWD/engine" "$PWD/export" "$PWD/files" "$home/"
if [[ -n ${CARRY:-} ]]; then
  carried=$PWD/build/gpu/carried
  mkdir -p "$carried" && tar xJf "$CARRY/carried.tar.xz" -C "$carried" || exit 1
  ORT_SITE=$carried/site GRAPHS=$carried/graphs BUNDLES="$carried/float16 $carried/bfloat16" FEATURES=$carried/features.npz
fi
export PYTHONPATH=$PWD/build/gpu${ORT_SITE:+:$ORT_SITE} PYTHONUNBUFFERED=1

asked() { [[ $wanted == *" $1 "* ]]; }

skip() { # name reason
  asked "$1" || return 0
  echo "== $1: skipped, $2"
  printf '%s\tskipped\t0\t%s\n' "$1" "$2" >>"$parts"
}

part() { # name seconds command...
  local name=$1 limit=$2 start=$SECONDS status said result=passed
  shift 2
  asked "$name" || return 0
  echo "== $name: $*"
  timeout "$limit" "$@" >"$out/gpu-$name.log" 2>&1
  status=$?
  ((status == 0)) || result=failed
  ((status != 124)) || result="failed: over $limit seconds"
  tail -n 3 "$out/gpu-$name.log"
  said=$(grep -v '^[[:space:]]*$' "$out/gpu-$name.log" | tail -n 1)
  said=${said//"$PWD"\//} # results leave the machine, its paths do not
  printf '%s\t%s\t%d\t%s\n' "$name" "$result" "$((SECONDS - start))" "$said" >>"$parts"
  return "$status"
}

check() {
  local tests=(tests/test_{advance,between,decide,dilate,forecast,graphs,history,known,noise,regions,repartition,select,solvers}.py)
  local pytest=("$python" -m pytest -q --noconftest -p no:cacheprovider -W default)
  part tests 150 "${pytest[@]}" --junitxml="$out/gpu-tests.xml" "${tests[@]}"
  local tool some="cuda and (tables or replay or large or unguided or inverse or dilate or formula)"
  for tool in memcheck racecheck; do
    if command -v compute-sanitizer >/dev/null; then
      part "$tool" 70 compute-sanitizer --tool "$tool" --error-exitcode 9 "${pytest[@]}" -k "$some" "${tests[@]}"
    else
      skip "$tool" "compute-sanitizer is not on the PATH"
    fi
  done
}

# Engines of TensorRT, and of TensorRT-RTX where that knows the GPU at hand, are built for it; their pictures are painted with the
# others, for as long as that may take.
engines() {
  local about='from flagdit.cpp_ext import Gpu
from flagdit.engine.compiler.build_rtx import ARCHITECTURES
from flagdit.engine.tensorrt.package import installed
here = Gpu.here().architecture
if installed("tensorrt"): print("tensorrt")
if installed("tensorrt-rtx") and here in ARCHITECTURES: print("tensorrt-rtx --sm", here)'
  # shellcheck disable=SC2016 # the inner shell expands them
  local target precision targets each='for target in "$@"; do for p in float16 int8 fp8; do
    name=build/gpu/${target%% *}-$p; rm -rf "$name"
    "$0" -c "from flagdit.engine.cli import main; main()" build demo -o "$name" --target $target --precision $p || exit
  done; done'
  mapfile -t targets < <("$python" -c "$about" 2>/dev/null)
  if ((${#targets[@]} == 0)); then
    skip engines "there is no Python package of TensorRT, or of TensorRT-RTX for this GPU"
    return
  fi
  part engines 150 bash -c "$each" "$python" "${targets[@]}" || return
  for target in "${targets[@]}"; do
    for precision in float16 int8 fp8; do BUNDLES="build/gpu/${target%% *}-$precision ${BUNDLES:-}"; done
  done
}

# Pictures need the C library of onnxruntime-gpu: in the installed package, or in ORT_SITE.
pictures() {
  local runtime
  runtime=$(find "${ORT_SITE:-/nonexistent}/onnxruntime/capi" -name 'libonnxruntime.so*' 2>/dev/null | head -n 1)
  local bundle options=(--seconds 90 --json "$out/gpu-pictures.json" ${FEATURES:+--features "$FEATURES"})
  for bundle in ${BUNDLES:-demo}; do options+=(--bundle "$bundle"); done
  part pictures 120 env ${runtime:+RUNTIME="$runtime"} "$python" benchmarks/gpu_pictures.py "${options[@]}"
}

measure() {
  part kernels 90 "$python" benchmarks/kernels.py --device cuda --json "$out/gpu-kernels.json"
  local installed='import onnxruntime as o, sys; sys.exit("CUDAExecutionProvider" not in o.get_available_providers())'
  if "$python" -c "$installed" 2>/dev/null; then
    part denoise 150 "$python" benchmarks/gpu_denoise.py "${GRAPHS:-graphs}" --seconds 110 --json "$out/gpu-denoise.json"
    part steps 60 "$python" benchmarks/steps.py --device cuda --json "$out/gpu-steps.json"
  else
    skip steps "onnxruntime-gpu is not installed"
    skip denoise "onnxruntime-gpu is not installed"
  fi
}

sees_both='import torch
from flagdit.cpp_ext import with_cuda
assert with_cuda() and torch.cuda.is_available(), "no GPU, or a torch without CUDA: the tests would skip it"
print(torch.cuda.get_device_name(), torch.cuda.get_device_capability(), "torch", torch.__version__)'
configure=(cmake -S . -B build/gpu -G Ninja -DFLAGDIT_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native
  -DPython_EXECUTABLE="$("$python" -c 'import sys; print(sys.executable)')"
  -DFLAGDIT_PYTHON_OUTPUT_DIR="$PWD/$home/cpp_ext"
  ${TENSORRT_INCLUDE_DIR:+-DFLAGDIT_TENSORRT=ON "-DTENSORRT_INCLUDE_DIR=$TENSORRT_INCLUDE_DIR"})
if part configure 30 "${configure[@]}" && part build 120 cmake --build build/gpu --target _ext &&
  part device 30 "$python" -c "$sees_both"; then
  engines
  pictures
  check
  measure
  part randn 30 "$python" benchmarks/gpu_randn.py --json "$out/gpu-randn.json"
else
  for name in engines pictures tests randn memcheck racecheck kernels steps denoise; do skip "$name" "there are no kernels to run"; done
fi

"$python" - "$out" "$(nvcc --version 2>/dev/null | grep release)" "$(git rev-parse HEAD)" \
  "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1)" <<'PY'
import json
import sys
from pathlib import Path

out, nvcc, commit, device = Path(sys.argv[1]), *sys.argv[2:]
facts = {"command": "benchmarks/gpu.sh", "device": device, "nvcc": nvcc, "commit": commit, "parts": {}}
for line in (out / "gpu-parts.tsv").read_text().splitlines():
    name, result, seconds, said = line.split("\t", 3)
    facts["parts"][name] = {"result": result, "seconds": int(seconds), "said": said}
    results = out / f"gpu-{name}.json"
    if results.exists():
        facts["parts"][name]["results"] = json.loads(results.read_text())
(out / "gpu.json").write_text(json.dumps(facts, indent=1) + "\n")
print(f"wrote {out}/gpu.json")
failed = [name for name, part in facts["parts"].items() if part["result"].startswith("failed")]
sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
PY
