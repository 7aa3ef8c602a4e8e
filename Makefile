# Everything a contributor does. PYTHON= chooses the Python; without it the best one is found.
VENV ?= .venv
FUZZ_SECONDS ?= 300
export PYTHON

.PHONY: help demo test fuzz check bench docs venv clean

help:
	@echo "make demo    set up, and run the demo job"
	@echo "make test    set up, and run the tests (ARGS= are handed to pytest)"
	@echo "make fuzz    set up, and fuzz messages and lifecycle for FUZZ_SECONDS= each (300)"
	@echo "make check   set up, and check style, types, import layers and generated files"
	@echo "make bench   set up, and print the measurements"
	@echo "make docs    write the generated files anew"
	@echo "make clean   remove what was set up"
	@echo "PYTHON=...   the Python to use; VENV=... where to set up"

venv:
	@sh config/make-venv $(VENV)

demo: venv
	@$(VENV)/bin/procstop run examples/demo/job.toml

test: venv
	@$(VENV)/bin/python -m pytest $(ARGS)

fuzz: venv
	@PROCSTOP_FUZZ_SECONDS=$(FUZZ_SECONDS) $(VENV)/bin/python -m pytest -s tests/fuzz $(ARGS)

check: venv
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/python -m pytest -q tests/unit/test_layers.py tests/unit/test_docs.py tests/unit/test_jobfile_export.py

bench: venv
	@$(VENV)/bin/python benchmarks/run.py $(ARGS)

docs: venv
	@$(VENV)/bin/python docs/generate.py
	@$(VENV)/bin/python -m procstop.jobfile --write config

clean:
	@rm -rf .venv .venv-newer .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
