# make            set up .venv
# make demo       train and compare on shipped data (DATASET=kuairand or movielens-small)
# make docs       build the documentation site into site/ (docs-serve: on http://127.0.0.1:8001)
# make test       lint, types, tests (as root on Debian: gets chromium and PostgreSQL for them)
# make test-fast  tests of single rooms, without servers, training jobs and documents
# make coverage   all tests, and which share of the lines they run
# make test-oldest   test-fast and the tests nearest to libraries, with the oldest versions allowed
# make test-newest   the same with the newest ones
PYTHON ?= python3
DATASET ?= kuairand
OUT ?= demo-out
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

TRIED := test-oldest test-newest

.PHONY: install demo docs docs-serve test test-fast $(TRIED) coverage debian lint format bench clean
.DEFAULT_GOAL := install

# The pip that Python 3.11 brings looks for versions that fit for minutes; a new one takes seconds.
install: $(STAMP)

$(STAMP): Makefile pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "goalrank needs Python 3.11 or later; say which with: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[retrieval,trees,xgboost,tensorboard,onnx,serve,ab,ray,docs,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/goalrank demo --dataset $(DATASET) --out $(OUT)

# The theme announces its end of life at every build; docs/decisions/0028 says what then.
docs docs-serve: export NO_MKDOCS_2_WARNING := 1

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

docs-serve: $(STAMP)
	$(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread a worker: two workers with two threads each are slower than two with one.
test: $(STAMP) debian
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

UNIT := $(addprefix tests/,constraints encoders evaluation experiments features nn reporting \
  requests rewards storage test_architecture.py test_dependencies.py test_registry.py test_settings.py)

test-fast: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) $(UNIT)

# Users' extras but Ray and sentences, and the tools without which no test runs; others want newer
# libraries than the oldest that users may have.
EXTRAS := retrieval,trees,xgboost,tensorboard,mlflow,wandb,onnx,serve,postgres,otel,ab,client,testing
TOOLS := hypothesis pandas pytest-timeout pytest-xdist setuptools
NEAR := $(filter-out tests/test_architecture.py,$(UNIT)) \
  $(addprefix tests/,api bundles cli client rankers serving training/loop)

# Old libraries warn of what they import, which is no fault of ours; new ones warn of what will break.
test-oldest: WARNINGS := -W default

$(TRIED): test-%: debian
	rm -rf $(VENV)-$*
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-$*/bin/python -m pip install --quiet -c constraints-$*.txt -e '.[$(EXTRAS)]' $(TOOLS)
	OMP_NUM_THREADS=1 $(VENV)-$*/bin/python -m pytest -n $(JOBS) $(WARNINGS) $(NEAR)

coverage: $(STAMP) debian
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --cov

# What some tests need beside Python, from Debian as root. Where that cannot be, they are skipped,
# and the last lines of pytest name them; so nothing here may fail, or take long.
debian:
	@test "$$(id -u)" = 0 && command -v apt-get > /dev/null || exit 0; \
	missing=""; \
	ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || missing="$$missing postgresql"; \
	command -v chromium > /dev/null || missing="$$missing chromium fonts-dejavu-core"; \
	command -v promtool > /dev/null || missing="$$missing prometheus"; \
	test -z "$$missing" && exit 0; \
	echo "installing:$$missing"; \
	{ timeout 120 apt-get update -qq; DEBIAN_FRONTEND=noninteractive timeout 300 \
	    apt-get install -y -qq --no-install-recommends $$missing; } > /dev/null 2>&1 \
	  || echo "could not install:$$missing; the tests that need them are skipped"

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python perf/bench.py

clean:
	rm -rf $(VENV) $(VENV)-* build dist site demo-out .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
