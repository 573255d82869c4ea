# `make demo` and `make test` set up whatever they need; everything lives in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# For one test alone and apart from the rest: other packages change their ways beside torchvision,
# and what these depend on would bring another torch.
VISION := ultralytics torchvision opencv-python-headless

.PHONY: setup demo test lint types bench board wheel readme clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps \
		--upgrade --target $(VENV)/vision $(VISION)
	@touch $@

demo: setup
	$(BIN)/gradaudit demo --output gradaudit-report.html --force

test: setup
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

wheel: setup
	$(BIN)/python -m build --wheel --outdir dist

# What the README claims, measured; the longer experiments behind the limits run one by one:
# `python -m tests.benchmarks` lists them all.
BENCHES := cost intervals spectral convolutions curvature lyapunov noise precision onnx_speed

bench: setup
	@for each in $(BENCHES); do \
		echo "== $$each"; $(BIN)/python -m tests.benchmarks.$$each || failed="$$failed $$each"; \
	done; $(MAKE) board || failed="$$failed board"; test -z "$$failed" || { echo "not as claimed:$$failed"; exit 1; }

# Forecast, cause and cure on the corpus of trained recipes, beside the field's tools: an hour or
# two on two cores; what the same code has scored already is kept in build/.
board: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.benchmarks.foresight held

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache gradaudit-report.*

readme: setup
	$(BIN)/python -m tests.readme
