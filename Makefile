# Two commands for a new machine: `make demo` and `make test`. Each creates .venv, installs and runs.
VENV := .venv
PY   := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo test lint docs claims bench bench-gpu clean

demo: $(READY)
	$(VENV)/bin/sfumato demo

test: $(READY)
	$(PY) -m pytest -n auto --dist loadfile  # one process a core, one thread each

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(READY)
	$(PY) scripts/equations.py

claims: $(READY)
	$(PY) -m claims

bench: $(READY)
	$(PY) -m benchmarks --peer "$$(bash benchmarks/peers.sh | tail -n 1)"

bench-gpu:
	python3 -m benchmarks --gpu

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache

$(READY): pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@
