# make demo    set up, simulate a shop, train, serve, show ranked products
# make test    set up, lint, check types, run the tests
# make serve   serve the champion on 127.0.0.1:3000, to this machine and without keys
# make ui      the MLflow pages on 127.0.0.1:5000
# make bench   every benchmark, one table each
# make lint    format and lint findings, types
# make docs    build the documentation as a site, in build/site
# make wheel   build the wheel and the source distribution, in dist
# make hooks   run what `make lint` runs before each commit
# make lock    resolve the requirements anew
# make spark   add PySpark, for `usual features --engine spark` and its tests
# make fast    add lleaves, for USUAL_NATIVE=1 (the ranker as machine code) and its tests
# make system  what is needed from Debian (as root): OpenMP, which LightGBM links to
# make system-test  what the tests need beside it (as root): chromium, MariaDB, and Java for Spark

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export USUAL_HOME ?= $(CURDIR)/.usual

# Compiled modules are kept even where the environment says otherwise: a command starts three times faster.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test serve ui bench lint format docs wheel hooks lock spark fast system system-test

demo: $(READY)
	$(BIN)/usual demo

# A process per core, each with one thread: two that both use two threads would be several times slower.
test: lint
	USUAL_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

serve: $(READY)
	$(BIN)/usual serve --open

ui: $(READY)
	$(BIN)/usual ui

bench: $(READY)
	for script in simulator ingest features lifetime train shops rank serve event_store; do $(BIN)/python benchmarks/$$script.py || exit 1; done

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet -r requirements-docs.lock
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(READY)
	$(BIN)/uv build --quiet --out-dir dist

hooks: $(READY)
	$(BIN)/pre-commit install

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --only-binary grpcio -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $(READY)

lock: $(READY)
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-emit-index-url --only-binary grpcio \
		--group test --output-file requirements.lock pyproject.toml

	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-emit-index-url \
		--constraint requirements.lock --group docs --output-file requirements-docs.lock

	echo pyspark | $(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-emit-index-url \
		--output-file requirements-spark.lock -

	printf 'lleaves==1.3.0\nllvmlite==0.44.*\n' | $(BIN)/uv pip compile --quiet --python-version 3.11 --no-emit-index-url \
		--constraint requirements.lock --output-file requirements-fast.lock -

spark: $(READY)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet -r requirements-spark.lock

fast: $(READY)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet -r requirements-fast.lock

system:
	ldconfig -p | grep -q libgomp.so.1 || (apt-get update && apt-get install --yes libgomp1)

system-test: system
	command -v chromium >/dev/null || (apt-get update && apt-get install --yes --no-install-recommends chromium)
	command -v java >/dev/null || (apt-get update && apt-get install --yes --no-install-recommends default-jre-headless)
	command -v mariadbd >/dev/null || (apt-get update && apt-get install --yes --no-install-recommends mariadb-server)
