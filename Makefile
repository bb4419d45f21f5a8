# Everything works on a fresh machine that has only Python >= 3.11 and make: `make help` lists the targets.
# A target installs what it needs into .venv first, and again whenever pyproject.toml changes.
#   make test PYTHON=python3.12          another interpreter
#   make test PYTEST_ARGS="-m 'not slow'" PROCESSES=1

PYTHON ?= python3
VENV   ?= .venv
PROCESSES ?= auto
BIN    := $(VENV)/bin
DEV    := $(VENV)/.installed-dev
DEMO   := $(VENV)/.installed-demo
SITE   := build/docs

.PHONY: help demo test lint types docs lowest format clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## explain each target
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(DEMO) ## train both phases on handwritten digits: no download, at most 5 minutes on 2 cores after the install
	$(BIN)/lpt demo $(DEMO_ARGS)

test: $(DEV) ## run the test suite; PYTEST_ARGS="-m 'not slow'" leaves out whole training runs
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal $(PYTEST_ARGS)

lint: $(DEV) ## check style, spelling, and the sentences of the documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/python -m scripts.check_prose

types: $(DEV) ## check types with mypy
	$(BIN)/mypy

docs: $(DEV) ## build the site into build/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -n -q -d build/doctrees docs $(SITE)
	@echo "$(SITE)/index.html"

lowest: $(BIN)/pip ## start the program with the lowest releases that pyproject.toml allows (base install; a minute)
	$(PYTHON) -m venv --clear $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct .
	for command in --help methods config "fit --help"; do $(VENV)-lowest/bin/lpt $$command > /dev/null || exit 1; done

format: $(DEV) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what was built, but for .venv
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment is made once; an existing one is used as it is. A half-made one has no pip and is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "LPT needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Install a newer one, or name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@
