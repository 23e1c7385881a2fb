# One command does everything: `make demo` shows it, `make test` proves it. Both set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test check format fuzz bench docs clean
SEEDS ?= 1000
SECONDS ?= 600

install: $(STAMP)  ## make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "p2pfl needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@# torch first: its pinned version is a CPU build where the index has one
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev,docs,ray]'
	@# an independent implementation that the tests compare with; what it asks for besides is not needed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps byzfl==0.0.11
	@touch $@

demo: install  ## six real nodes on this machine, with faults, in a minute
	@$(BIN)/p2pfl demo $(ARGS)

test: install  ## all tests on two cores; of those with real processes, each file by itself
	@if [ -n '$(ARGS)' ]; then $(BIN)/pytest $(ARGS); else \
		echo "$(BIN)/pytest -n 2 --ignore=tests/integration && $(BIN)/pytest -n 2 tests/integration"; \
		$(BIN)/pytest -n 2 --dist worksteal --ignore=tests/integration && \
			$(BIN)/pytest -n 2 --dist loadfile tests/integration; fi

check: install  ## format, lint, import rules, security, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r p2pfl
	$(BIN)/mypy

format: install  ## what `check` would complain about, where a tool can mend it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: install  ## random faults over whole swarms, hostile bytes for every reader: make fuzz SEEDS=1000 SECONDS=1800
	$(BIN)/python -m tests.sim.fuzz --seeds $(SEEDS) --jobs 2
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

bench: install  ## every figure of the README, and PROTOCOL's learning figures
	@for script in exchange hostile footprint straggler simulator learning; do \
		$(BIN)/python benchmarks/$$script.py || exit 1; done

docs: install  ## the documentation as a site: site/index.html; asks nobody on the network
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "site/index.html"

clean:  ## remove everything that was made
	rm -rf $(VENV) runs dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
