# Shortcuts for tools/ and tests/. README.md has the commands without make.
PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE # otherwise each process compiles the tests again, a tenth of `make test`
TSC := npm exec --yes --prefer-offline --package=typescript@7 -- tsc
# Keep the order that tests/conftest.py sets.
IN_ORDER := --dist loadfile --no-loadscope-reorder
# Four processes on two cores, because tests often wait. Each process needs 4 seconds to start.
PARALLEL := -n 4 $(IN_ORDER)

.PHONY: help demo test test-fast test-all newest-flyte mutants bench load pictures check format

help:  ## List all commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: .venv/demo  ## Generate the default project and run it with a local Flyte server; Ctrl-C stops it
	@$(BIN)/python tools/demo.py

test: .venv/installed  ## Run the tests
	$(BIN)/python -m pytest $(PARALLEL) -m "not weekly"

test-fast: .venv/installed  ## Run the tests that install nothing and start no server
	$(BIN)/python -m pytest -n 2 $(IN_ORDER) -m "not slow and not weekly" tests/test_*.py

test-all: .venv/installed  ## Run all tests, as CI does weekly: other Pythons, oldest versions
	$(BIN)/python -m pytest $(PARALLEL)

newest-flyte: .venv/demo  ## List missing and new names of the newest flyte, also of release candidates
	@$(BIN)/uv run --quiet --isolated --no-project --python $(BIN)/python --prerelease allow \
		--with flyte python tools/flyte_names.py

mutants: .venv/installed  ## Mutate the middleware, and check that tests fail (minutes)
	$(BIN)/python tools/mutants.py

bench: .venv/installed  ## Compare the middleware with the SDK's, and the app with a minimal one
	$(BIN)/python benchmarks/middleware.py
	$(BIN)/python benchmarks/cold_start.py
	$(BIN)/python benchmarks/viewers.py
	$(BIN)/python benchmarks/costs.py
	$(BIN)/python benchmarks/weight.py
	$(BIN)/python benchmarks/attacks.py

load: .venv/installed  ## Check the isolation of 2,000 concurrent users (minutes)
	$(BIN)/python benchmarks/isolation.py

pictures: .venv/installed  ## Take the screenshot in README.md again
	$(BIN)/python tools/pictures.py

check: .venv/installed  ## Check format, lint and types, also of the template folder
	@failed=0; run() { echo "$$*"; "$$@" || { failed=1; all="$$all\n  $$*"; }; }; \
	run $(BIN)/ruff format --check; \
	run $(BIN)/ruff check; \
	run $(BIN)/ruff format --check --config pyproject.toml */local_flyte */passthrough; \
	run $(BIN)/ruff check --config pyproject.toml */local_flyte */passthrough; \
	run $(BIN)/mypy; \
	cd *cookiecutter.project_slug* && run ../$(BIN)/mypy --cache-dir=../.mypy_cache/template; \
	run ../$(BIN)/biome check --config-path=.. --error-on-warnings app/page; \
	run eval "! LC_ALL=C.UTF-8 grep -nE '.{101}' app/page/*.js app/page/*.css"; \
	if command -v npm >/dev/null; then run $(TSC) -p ..; \
	else echo "The types of the page are not checked: there is no npm"; fi; \
	[ $$failed = 0 ] || printf "Failed:%b\n" "$$all"; \
	exit $$failed

format: .venv/installed  ## Format the template's own code and fix what the linter can
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format
	cd *cookiecutter.project_slug* && ../$(BIN)/biome check --config-path=.. --write app/page

.venv/demo: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "This needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python .venv --group demo
	@touch $@

.venv/installed: .venv/demo
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv --group dev
	@$(BIN)/python tools/get_chromium.py
	@touch $@
