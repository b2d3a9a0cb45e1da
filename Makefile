# `make demo` paints two pictures, `make test` passes the tests; each sets up what it needs in .venv first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROMPT ?= a red apple on a blue background
SOURCES := $(shell find cpp_ext -name '*.cpp' -o -name '*.h' -o -name '*.cu') CMakeLists.txt setup.py pyproject.toml

.PHONY: demo test lint typing-path clean

demo: $(VENV)/.runtime
	@mkdir -p out
	$(BIN)/flagdit generate "$(PROMPT)" -o out/ras.png --map out/ras-map.png --report out/ras.json
	$(BIN)/flagdit generate "$(PROMPT)" -o out/dense.png --dense --report out/dense.json

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev typing-path
	$(BIN)/pre-commit run --all-files --show-diff-on-failure

# mypy does not follow editable installs; it does follow this.
typing-path:
	@mkdir -p build/typing/flagdit
	@ln -sfn $(CURDIR)/export $(CURDIR)/engine $(CURDIR)/cpp_ext build/typing/flagdit/

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
