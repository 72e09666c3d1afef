# Everything runs in .venv, which the first target that needs it makes. Nothing has to be installed before.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KILLS := 3000
DIFFUSERS_VENV := .venv-diffusers
CHATS_VENV := .venv-chats

.DEFAULT_GOAL := help
.PHONY: help demo test test-kills test-browser test-chats test-diffusers explore crash check format bench diagrams clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Limner needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { echo "'$(PYTHON) -m venv' failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing Limner and its tools into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## Open a small chat whose stories are painted while they are written (offline; Ctrl-C ends it)
	@$(BIN)/limner demo

test: $(STAMP) ## Run the test suite, on as many processes as there are cores
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m 'not kills'

test-kills: $(STAMP) ## Kill a process at every point of its work, restart it, and look for what was lost (two minutes)
	@$(BIN)/python -m pytest -m kills tests/crash

test-browser: $(STAMP) ## Test the pages in Chromium (Debian: apt-get install chromium; elsewhere name it with LIMNER_CHROMIUM)
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile tests/browser

test-chats: ## Test with the real Chainlit and discord.py (a hundred packages, into a .venv of their own; needs Chromium)
	@"$(PYTHON)" -m venv $(CHATS_VENV)
	@$(CHATS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints-chats.txt --editable '.[trio]' pytest playwright chainlit discord.py
	@$(CHATS_VENV)/bin/python -m pytest -o filterwarnings=default tests/with_chats

test-diffusers: ## Test with real pipelines of diffusers (installs torch, more than 1 GB, into a .venv of its own)
	@"$(PYTHON)" -m venv $(DIFFUSERS_VENV)
	@$(DIFFUSERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--constraint constraints-diffusers.txt --editable '.[diffusers,trio]' pytest
	@$(DIFFUSERS_VENV)/bin/python -m pytest tests/with_diffusers

explore: $(STAMP) ## Walk through everything that can happen to a session with up to four images (two minutes)
	@$(BIN)/limner check

crash: $(STAMP) ## Kill the process some thousand times under load and look for what was lost (ten minutes; KILLS=…)
	@$(BIN)/python -m tests.crash.load --kills $(KILLS)

check: $(STAMP) ## Types, style, and diagrams that match the code
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/limner diagrams --check

format: $(STAMP) ## Format the code and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## Measure costs side by side and print a table
	@$(BIN)/python -m benchmarks

diagrams: $(STAMP) ## Draw the state machines into diagrams/
	@$(BIN)/limner diagrams

clean: ## Remove the environment and what was made
	rm -rf $(VENV) $(DIFFUSERS_VENV) $(CHATS_VENV) demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis
