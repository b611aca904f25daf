# The commands of README and of .ci/run. Each makes .venv first if it is missing or out of date.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/installed
TOOLS_STAMP := $(VENV)/tools-installed
BENCH_VENV := .venv-bench
BENCH_STAMP := $(BENCH_VENV)/installed
DOCS_VENV := .venv-docs
DOCS_STAMP := $(DOCS_VENV)/installed
API_TOOLS_VENV := .venv-api-tools
API_TOOLS_STAMP := $(API_TOOLS_VENV)/installed
LOWEST_VENV := .venv-lowest
LOWEST_STAMP := $(LOWEST_VENV)/installed
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# The packages whose public types are known in full.
TYPED_PACKAGES := servease_appt servease_appt.cache servease_appt.cache.testing
ARGS ?=
# Two processes, each with servers of its own. A file is run by one of them, so that what its tests share is started
# once; in the order of the collection, because the last files are short.
WHOLE_SUITE := -n 2 --dist loadfile --no-loadscope-reorder
# How much of it a night does.
HISTORIES ?= 10000
CONTEST_SECONDS ?= 600
MUTATION_MINUTES ?= 90
LOCK_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock"

.PHONY: help demo test test-lowest test-flask-caching mutation cache-mutation histories contest nightly bench bench-quick \
	bench-scale races faults scale docs links screenshots api-tools audit check format lock clean

help:
	@echo "make demo    the whole service with embedded servers and demo data, until Ctrl-C (ARGS=--check: check and stop)"
	@echo "make test    the test suite in two processes, on servers that it starts itself, with its coverage floor"
	@echo "             (ARGS are handed to pytest; with ARGS one process runs it, and coverage is not measured)"
	@echo "make test-flask-caching  Flask-Caching's own tests, fetched from its sdist, with the two-tier backend"
	@echo "make test-lowest   the test suite on the lowest versions that pyproject.toml allows"
	@echo "make mutation   test the tests of the parts where a wrong line costs most (a few minutes; by hand or nightly)"
	@echo "make nightly  all that takes long: mutation tests, new histories of the cache, contested bookings, faults"
	@echo "make histories       thousands of new histories of the cache (HISTORIES=10000)"
	@echo "make contest         contested bookings over HTTP with kills, and builds without protections"
	@echo "make cache-mutation  mutation tests of the cache's protocol, for MUTATION_MINUTES=90"
	@echo "make bench   measure it against its peers and against the least possible (bench-quick: under a minute)"
	@echo "make races   force races on this cache and on its peers, and write the table of docs/races.md (six minutes; Python 3.12)"
	@echo "make bench-scale   measure what 1 to 1,000 workers cost Redis, and write docs/scaling.md's tables (ARGS=--quick)"
	@echo "make faults  break it under load and check what every request saw (ARGS='--only NAME': one fault)"
	@echo "make scale   the same on Redis Sentinel, Redis Cluster and three hosts, about 7 minutes (ARGS='--only NAME': one fault)"
	@echo "make docs    the documents and the API's reference as a site in build/docs; a warning or a broken link fails"
	@echo "make links   ask for the documents' external links; Error 1: one has no page, 2: a host could not be asked"
	@echo "make screenshots   the dashboard's pictures in docs/, taken of a service under load (needs Chromium; three minutes)"
	@echo "make audit   known vulnerabilities of the locked dependencies; says where there was no data (exit code 2)"
	@echo "make api-tools   what the tests then try the OpenAPI document and the pages with: a linter, client generators, axe"
	@echo "make check   formatting, lint, types, the types of the public API and import rules"
	@echo "make format  rewrite the sources as 'make check' wants them"
	@echo "make lock    resolve the dependencies anew into requirements.lock"

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing the locked dependencies into $(VENV) ..."
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) $(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PY) $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(TOOLS_STAMP): $(STAMP) requirements-tools.lock
	@echo "Installing the tools of 'make check' into $(VENV) ..."
	@$(PY) $(PIP_INSTALL) --require-hashes -r requirements-tools.lock
	@touch $@

demo: $(STAMP)
	@$(PY) -m servease_appt.demo $(ARGS)

# A part of the suite can't reach the floor, so coverage is measured for the whole alone.
test: $(STAMP)
ifeq ($(strip $(ARGS)),)
	@rm -f .coverage .coverage.*
	@$(PY) -m coverage run -m pytest $(WHOLE_SUITE)
	@$(PY) -m coverage combine --quiet
	@$(PY) -m coverage report --sort=cover
else
	@$(PY) -m pytest $(ARGS)
endif

$(LOWEST_STAMP): $(TOOLS_STAMP) pyproject.toml
	@echo "Installing the lowest versions that pyproject.toml allows into $(LOWEST_VENV) ..."
	@test -x $(LOWEST_VENV)/bin/python || $(PYTHON) -m venv $(LOWEST_VENV)
	@$(VENV)/bin/uv pip compile --quiet --upgrade --resolution lowest-direct --python $(LOWEST_VENV)/bin/python --extra test \
		pyproject.toml -o $(LOWEST_VENV)/requirements.txt
	@$(LOWEST_VENV)/bin/python $(PIP_INSTALL) -r $(LOWEST_VENV)/requirements.txt
	@$(LOWEST_VENV)/bin/python $(PIP_INSTALL) --no-deps --editable .
	@touch $@

test-lowest: $(LOWEST_STAMP)
	@$(LOWEST_VENV)/bin/python -m pytest $(or $(strip $(ARGS)),$(WHOLE_SUITE))

test-flask-caching: $(STAMP)
	@$(PY) -m tests.cache.flask_caching_suite $(ARGS)

# What takes too long for every change. Each part is a target of its own, so that one failure does not hide another.
nightly: histories contest mutation cache-mutation
	@$(PY) -m faults $(ARGS)

histories: $(STAMP)
	@CACHE_HISTORIES=$(HISTORIES) $(PY) -m pytest -q --timeout=0 tests/cache/test_machine.py -k ends_stale

# A build without a protection must be found broken.
contest: $(STAMP)
	@$(PY) -m faults --contest $(CONTEST_SECONDS)
	@for protection in no-advisory-locks no-row-locks keys-ignored; do \
		$(PY) -m faults --contest 90 --broken $$protection || exit 1; done

cache-mutation: $(TOOLS_STAMP)
	@$(PY) -m tools.cache_mutation --minutes $(MUTATION_MINUTES) $(ARGS)

mutation: $(TOOLS_STAMP)
	@rm -rf mutants
	@$(VENV)/bin/mutmut run
	@$(VENV)/bin/mutmut results

faults: $(STAMP)
	@$(PY) -m faults $(ARGS)

scale: $(STAMP)
	@$(PY) -m faults.fleet $(ARGS)

$(BENCH_STAMP): pyproject.toml requirements-bench.lock
	@echo "Installing the service and its peers into $(BENCH_VENV) ..."
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-bench.lock
	@$(BENCH_VENV)/bin/python $(PIP_INSTALL) --no-deps --editable .
	@touch $@

bench: $(BENCH_STAMP)
	@$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

races: $(BENCH_STAMP)
	@$(BENCH_VENV)/bin/python -m benchmarks.races $(ARGS)

bench-quick: $(BENCH_STAMP)
	@$(BENCH_VENV)/bin/python -m benchmarks --quick $(ARGS)

bench-scale: $(BENCH_STAMP)
	@$(BENCH_VENV)/bin/python -m benchmarks.scale $(ARGS)

$(DOCS_STAMP): pyproject.toml requirements-docs.lock
	@echo "Installing the service and Sphinx into $(DOCS_VENV) ..."
	@test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-docs.lock
	@$(DOCS_VENV)/bin/python $(PIP_INSTALL) --no-deps --editable .
	@touch $@

docs: $(DOCS_STAMP)
	@$(DOCS_VENV)/bin/python -m sphinx -q -W --keep-going -E -b html -c docs/site docs build/docs $(ARGS)
	@echo "The site is in build/docs/index.html"

links: $(STAMP)
	@$(PY) -m tools.links

# A virtual environment of its own: the generated client has to run where nothing of the service is installed.
$(API_TOOLS_STAMP): requirements-api-tools.lock tests/api_clients/package-lock.json
	@echo "Installing the tools that read the OpenAPI document into $(API_TOOLS_VENV) ..."
	@test -x $(API_TOOLS_VENV)/bin/python || $(PYTHON) -m venv $(API_TOOLS_VENV)
	@$(API_TOOLS_VENV)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-api-tools.lock
	@if command -v npm >/dev/null; then \
		mkdir -p $(API_TOOLS_VENV)/node && \
		cp tests/api_clients/package.json tests/api_clients/package-lock.json $(API_TOOLS_VENV)/node && \
		npm ci --silent --no-audit --no-fund --ignore-scripts --prefix $(API_TOOLS_VENV)/node; \
	else echo "npm is not installed: the tests of Redocly, of the TypeScript client and of accessibility will be skipped"; fi
	@touch $@

api-tools: $(API_TOOLS_STAMP)

check: $(TOOLS_STAMP)
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -m tools.public_types $(TYPED_PACKAGES)
	@$(VENV)/bin/lint-imports

screenshots: $(STAMP)
	@$(PY) -m tests.dashboard.screenshots $(ARGS)

audit: $(TOOLS_STAMP)
	@$(PY) -m tools.audit

format: $(STAMP)
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

lock: $(TOOLS_STAMP)
	@$(VENV)/bin/uv pip compile $(LOCK_FLAGS) --upgrade --all-extras pyproject.toml -o requirements.lock
	@$(VENV)/bin/uv pip compile $(LOCK_FLAGS) --constraint requirements.lock pyproject.toml -o requirements-runtime.lock
	@$(VENV)/bin/uv pip compile $(LOCK_FLAGS) --constraint requirements.lock --extra demo pyproject.toml \
		benchmarks/requirements.in -o requirements-bench.lock
	@$(VENV)/bin/uv pip compile $(LOCK_FLAGS) --constraint requirements.lock --upgrade pyproject.toml \
		docs/site/requirements.in -o requirements-docs.lock
	@$(VENV)/bin/uv pip compile $(LOCK_FLAGS) --constraint requirements.lock --upgrade tools/requirements.in \
		-o requirements-tools.lock
	@$(PY) -m tools.sbom
	@$(VENV)/bin/uv pip compile $(LOCK_FLAGS) --upgrade tests/api_clients/requirements.in -o requirements-api-tools.lock

clean:
	@rm -rf $(VENV) $(BENCH_VENV) $(DOCS_VENV) $(LOWEST_VENV) $(API_TOOLS_VENV) build .demo .coverage .coverage.* dist mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
