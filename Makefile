# make demo    set up, simulate a shop, train, serve, show ranked products
# make test    set up, lint, check types, run the tests
# make serve   serve the packaged champion on 127.0.0.1:3000
# make ui      the MLflow pages on 127.0.0.1:5000
# make bench   every benchmark, one table each
# make lint    format and lint findings, types
# make lock    resolve requirements.lock anew
# make system  what is needed from Debian (as root): OpenMP, which LightGBM links to

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export USUAL_HOME ?= $(CURDIR)/.usual

# Compiled modules are kept even where the environment says otherwise: a command starts three times faster.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test serve ui bench lint format lock system

demo: $(READY)
	$(BIN)/usual demo

test: lint
	$(BIN)/python -m pytest

serve: $(READY)
	$(BIN)/usual serve

ui: $(READY)
	$(BIN)/usual ui

bench: $(READY)
	for script in ingest snapshot train rank serve; do $(BIN)/python benchmarks/$$script.py || exit 1; done

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --only-binary grpcio -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $(READY)

lock: $(READY)
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-emit-index-url --only-binary grpcio \
		--group test --output-file requirements.lock pyproject.toml

system:
	ldconfig -p | grep -q libgomp.so.1 || (apt-get update && apt-get install --yes libgomp1)
