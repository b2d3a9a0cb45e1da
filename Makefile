# `make demo` paints two pictures, `make test` passes the tests; each sets up what it needs in .venv first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROMPT ?= a red apple on a blue background
SOURCES := $(shell find cpp_ext -name '*.cpp' -o -name '*.h' -o -name '*.cu') CMakeLists.txt setup.py pyproject.toml

# Eight files are compiled at a time (half of the compiler's time goes into headers), and warnings are errors.
CMAKE_FLAGS := -G Ninja -DFLAGDIT_WERROR=ON -DCMAKE_UNITY_BUILD=ON

# Tests run in so many processes, one thread of torch each.
WORKERS ?= 2
PYTEST := -m pytest -n $(WORKERS) --dist worksteal
test lowest runtime emulator sanitize: export OMP_NUM_THREADS := 1

.PHONY: demo test lowest lint typing-path cuda stand-in emulator runtime sanitize clean

demo: $(VENV)/.runtime
	@mkdir -p out
	$(BIN)/flagdit generate "$(PROMPT)" --preset quality -o out/ras.png --map out/ras-map.png \
	  --report out/ras.json
	$(BIN)/flagdit generate "$(PROMPT)" --preset quality --dense -o out/dense.png --report out/dense.json

test: $(VENV)/.dev
	$(BIN)/python $(PYTEST)

# The runtime, the command line and the export, from a wheel, with the lowest versions that pyproject.toml declares. What
# is pinned, as torch is, comes from $(VENV), which stands last on the path. CORE_TESTS need NumPy alone; training, the demo's
# pictures and benchmarks are left to `make test`.
LOWEST := build/lowest
LOWEST_EXTRAS := export rtx bench test
LOWEST_TESTS := $(addprefix tests/test_,$(addsuffix .py,bundle bundle_presets cli cli_plan coarse_options determinism docs exporter house layout machine maps noise onnxruntime operators_attention operators_products paper pipeline precision requests resolve schedule))
lowest: $(VENV)/.dev
	rm -rf $(LOWEST) && $(PYTHON) -m venv $(LOWEST)
	$(PYTHON) .ci/lowest.py $(LOWEST_EXTRAS) > $(LOWEST)/requirements.txt
	$(LOWEST)/bin/python -m pip install -q --disable-pip-version-check --no-compile -r $(LOWEST)/requirements.txt
	PATH="$(CURDIR)/$(LOWEST)/bin:$$PATH" $(LOWEST)/bin/python -m pip wheel -q --disable-pip-version-check \
	  --no-build-isolation --no-deps -w $(LOWEST) .
	$(LOWEST)/bin/python -m pip install -q --disable-pip-version-check --no-deps $(LOWEST)/flagdit-*.whl
	site='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	  $(BIN)/python -c "$$site" > "$$($(LOWEST)/bin/python -c "$$site")/pinned.pth"
	$(LOWEST)/bin/python .ci/lowest.py --check $(LOWEST_EXTRAS)
	$(LOWEST)/bin/flagdit generate "$(PROMPT)" --preset quality -o $(LOWEST)/out.png --map $(LOWEST)/map.png
	FLAGDIT_WHEEL="$$(ls $(CURDIR)/$(LOWEST)/flagdit-*.whl)" $(LOWEST)/bin/python $(PYTEST) -q -m 'not slow' $(LOWEST_TESTS)

lint: $(VENV)/.dev typing-path
	PATH="$(CURDIR)/$(BIN):$$PATH" pre-commit run --all-files --show-diff-on-failure

# mypy does not follow editable installs; it does follow this.
typing-path:
	@mkdir -p build/typing/flagdit
	@ln -sfn $(CURDIR)/export $(CURDIR)/engine $(CURDIR)/cpp_ext $(CURDIR)/files build/typing/flagdit/

# Compiles the CUDA kernels for all architectures; needs nvcc, but no GPU.
STAND_IN := $(CURDIR)/build/stand_in
cuda: $(VENV)/.dev
	@mkdir -p $(STAND_IN)/flagdit/cpp_ext && cp cpp_ext/*.py $(STAND_IN)/flagdit/cpp_ext/
	@ln -sfn $(CURDIR)/engine $(CURDIR)/export $(CURDIR)/files $(STAND_IN)/flagdit/
	$(BIN)/cmake -S . -B build/cuda $(CMAKE_FLAGS) -DFLAGDIT_CUDA=ON -DFLAGDIT_CUDA_RUNTIME=shared \
	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python -DFLAGDIT_PYTHON_OUTPUT_DIR=$(STAND_IN)/flagdit/cpp_ext
	$(BIN)/cmake --build build/cuda

# Whole runs through ONNX Runtime's CUDA provider and these kernels, over a stand-in for CUDA that counts and forbids.
stand-in: cuda
	$(BIN)/python -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d $(STAND_IN) onnxruntime-gpu==1.31.1
	$(BIN)/python tests/stand_in/build.py $(STAND_IN)
	FLAGDIT_STAND_IN=$(STAND_IN) $(BIN)/python -m pytest -q --noconftest tests/test_stand_in.py tests/test_cuda_launches.py

# The CUDA kernels on the host (tests/cuda_emulator), and the tests that a GPU would run, over it; the TensorRT backend over a
# stand-in (tests/fake_tensorrt). Needs no part of CUDA or TensorRT.
EMULATOR := $(CURDIR)/build/emulator
EMULATOR_TESTS := $(addprefix tests/test_,$(addsuffix .py,advance between decide device_runs dilate forecast graphs history known noise phases renormalise repartition select solvers tensorrt_cuda tensorrt_rules_cuda))
emulator: $(VENV)/.dev
	@mkdir -p $(EMULATOR)/flagdit/cpp_ext && cp cpp_ext/*.py $(EMULATOR)/flagdit/cpp_ext/
	$(BIN)/cmake -S . -B $(EMULATOR) $(CMAKE_FLAGS) -DFLAGDIT_EMULATE_CUDA=ON '-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG' \
	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python -DFLAGDIT_PYTHON_OUTPUT_DIR=$(EMULATOR)/flagdit/cpp_ext \
	  -DFLAGDIT_TENSORRT=ON -DTENSORRT_INCLUDE_DIR=$(CURDIR)/tests/fake_tensorrt
	$(BIN)/cmake --build $(EMULATOR) --target _ext tensorrt_test
	$(EMULATOR)/tensorrt_test
	FLAGDIT_EMULATOR=1 PYTHONPATH=$(EMULATOR) $(BIN)/python $(PYTEST) -q --noconftest -k cuda $(EMULATOR_TESTS)

# The library and the program that need no Python, their tests, and both examples against what is installed.
runtime: $(VENV)/.dev
	$(BIN)/cmake -S . -B build/runtime $(CMAKE_FLAGS) -DFLAGDIT_PYTHON=OFF -DFLAGDIT_RUNTIME=ON
	$(BIN)/cmake --build build/runtime
	$(BIN)/ctest --test-dir build/runtime --output-on-failure
	$(BIN)/cmake --install build/runtime --prefix build/runtime/installed
	$(BIN)/python $(PYTEST) -q tests/test_runtime.py tests/test_c_interface.py

# The core's tests against a copy of it built with ASan and UBSan. FUZZ: random cases of every operator and binding.
FUZZ := 300
CORE_TESTS := $(addprefix tests/test_,$(addsuffix .py,plan advance between decide known history dilate forecast solvers noise select repartition regions graphs operators_attention operators_blocks operators_products fuzz_operators fuzz_blocks fuzz_bindings fuzz_orientation fuzz_plan fuzz_text))
sanitize: $(VENV)/.dev
	@mkdir -p build/sanitize/flagdit/cpp_ext && cp cpp_ext/*.py build/sanitize/flagdit/cpp_ext/
	$(BIN)/cmake -S . -B build/sanitize $(CMAKE_FLAGS) -DFLAGDIT_SANITIZE=ON -DFLAGDIT_RUNTIME=ON \
	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python -DFLAGDIT_PYTHON_OUTPUT_DIR=$(CURDIR)/build/sanitize/flagdit/cpp_ext
	$(BIN)/cmake --build build/sanitize --target _ext flagdit_core_test
	build/sanitize/flagdit_core_test engine/demo tests/runtime/fixtures.json
	$(BIN)/cmake -S . -B build/tsan $(CMAKE_FLAGS) -DFLAGDIT_SANITIZE=thread -DFLAGDIT_RUNTIME=ON -DFLAGDIT_PYTHON=OFF
	$(BIN)/cmake --build build/tsan --target flagdit_core_test
	build/tsan/flagdit_core_test engine/demo tests/runtime/fixtures.json
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 FLAGDIT_FUZZ=$(FUZZ) PYTHONPATH=build/sanitize $(BIN)/python $(PYTEST) -q --noconftest --capture=sys $(CORE_TESTS)

clean:
	rm -rf build dist out *.egg-info cpp_ext/_ext*.so $(VENV)

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.venv $(SOURCES)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.venv $(SOURCES)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.runtime
