# make book | test | browse | print | serve | bench | bench-gpu | lint | clean | rebuild | same | soak | mutants
# Each does the set-up that it needs: an environment in .venv, its versions those of constraints.txt.
# PYTHON=... chooses the interpreter that .venv is made from, PORT=... where `make serve` listens, PROFILE=... which
# of params/ `make rebuild` takes. `make same` holds a rebuild with the pages' own values to the articles of `make book`.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
PORT ?= 8000
PROFILE ?= quick

.PHONY: book test browse print serve bench bench-gpu lint clean rebuild same soak mutants
.DEFAULT_GOAL := book

book: $(VENV)/.has-book
	$(BIN)/jupyter-book build book/ -W --keep-going -n
	@echo
	@echo "The site: $(CURDIR)/_build/html/index.html"
	@echo "On localhost: make serve"

rebuild: $(VENV)/.has-book
	$(BIN)/python -m rnnlab rebuild params/$(PROFILE)

same: book
	$(BIN)/python -m rnnlab rebuild params/quick
	$(BIN)/python -m tests.sites _build/html _build/rebuild/quick/_build/html

test: $(VENV)/.has-test
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

# A thousand sweeps' kills; goes on from those already counted in _build/soak.json.
soak: $(VENV)/.has-test
	$(BIN)/python -m tests.soak

# Plants 400 small faults, one at a time, in a copy of what decides numbers, and counts those that its tests see; goes
# on from those tried already. MUTANTS="rnnlab/network/* --sample 50 --seed 1" asks for others.
mutants: $(VENV)/.has-mutants
	$(BIN)/python -m tests.mutants $(MUTANTS)

# Opens every page of the site in headless Chromium, which has to be installed.
browse: $(VENV)/.has-test _build/html/index.html
	$(BIN)/python -m tests.browser _build/html

# The book as one PDF, beside the site and linked on it; by headless Chromium, which has to be installed.
print: $(VENV)/.has-print _build/html/index.html
	PYTHONPATH=book/_ext $(BIN)/python -m rnnbook.printing _build/html

serve: _build/html/index.html
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT))).close()' 2>/dev/null || \
		{ echo "port $(PORT) cannot be listened on, as if another server did; name one: make serve PORT=8001" >&2; exit 1; }
	@echo "http://localhost:$(PORT) (Ctrl-C stops)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

_build/html/index.html:
	$(MAKE) book

bench: $(VENV)/.has-bench
	$(BIN)/python -m tests.benchmarks.engines

bench-gpu: $(VENV)/.has-bench
	$(BIN)/python -m tests.benchmarks.gpu

lint: $(VENV)/.has-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf _build

# .has-X says that the packages of the extra X are in .venv, as pyproject.toml and constraints.txt now ask.
$(VENV)/.has-%: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-build-isolation --editable '.[$*]'
	@touch $@

# pip is the last thing that venv writes.
$(BIN)/pip:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "$(VENV): made by $$python ($$("$$python" --version))"; \
			exec "$$python" -m venv $(VENV); \
		fi; \
	done; \
	echo "rnnlab needs Python 3.11 or later, with its venv module (on Debian: python3-venv)." >&2; \
	echo "Tried: $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python). Name one: make PYTHON=/path/to/python3" >&2; \
	exit 1
