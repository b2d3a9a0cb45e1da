# `make demo` paints two pictures, `make test` passes the tests; each sets up what it needs in .venv first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROMPT ?= a red apple on a blue background
SOURCES := $(shell find cpp_ext -name '*.cpp' -o -name '*.h' -o -name '*.cu') CMakeLists.txt setup.py pyproject.toml

.PHONY: demo test lint typing-path cuda sanitize clean

demo: $(VENV)/.runtime
	@mkdir -p out
	$(BIN)/flagdit generate "$(PROMPT)" --preset quality -o out/ras.png --map out/ras-map.png \
	  --report out/ras.json
	$(BIN)/flagdit generate "$(PROMPT)" --preset quality --dense -o out/dense.png --report out/dense.json

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev typing-path
	PATH="$(CURDIR)/$(BIN):$$PATH" pre-commit run --all-files --show-diff-on-failure

# mypy does not follow editable installs; it does follow this.
typing-path:
	@mkdir -p build/typing/flagdit
	@ln -sfn $(CURDIR)/export $(CURDIR)/engine $(CURDIR)/cpp_ext $(CURDIR)/files build/typing/flagdit/

# Compiles the CUDA kernels for all architectures; needs nvcc, but no GPU.
cuda: $(VENV)/.dev
	$(BIN)/cmake -S . -B build/cuda -G Ninja -DFLAGDIT_CUDA=ON -DFLAGDIT_PYTHON=OFF -DFLAGDIT_WERROR=ON
	$(BIN)/cmake --build build/cuda

# The core's tests against a copy of it built with ASan and UBSan. FUZZ: random cases of every operator and binding.
FUZZ := 1000
CORE_TESTS := $(addprefix tests/test_,$(addsuffix .py,plan advance history dilate forecast solvers noise select repartition regions graphs operators_attention operators_blocks operators_products fuzz_operators fuzz_bindings fuzz_plan))
sanitize: $(VENV)/.dev
	@mkdir -p build/sanitize/flagdit/cpp_ext && cp cpp_ext/*.py build/sanitize/flagdit/cpp_ext/
	$(BIN)/cmake -S . -B build/sanitize -G Ninja -DFLAGDIT_SANITIZE=ON -DFLAGDIT_WERROR=ON \
	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python -DFLAGDIT_PYTHON_OUTPUT_DIR=$(CURDIR)/build/sanitize/flagdit/cpp_ext
	$(BIN)/cmake --build build/sanitize --target _ext
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 FLAGDIT_FUZZ=$(FUZZ) PYTHONPATH=build/sanitize $(BIN)/python -m pytest -q --noconftest --capture=sys $(CORE_TESTS)

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
