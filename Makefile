# `make demo` and `make test` do all the set-up they need in .venv; nothing but Python 3.11 or later is assumed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DEMO ?= demo-output
# Test processes side by side; a file's tests stay together. Many tests wait for Ray rather than compute.
WORKERS ?= 2

.PHONY: demo test lint format clean

demo: $(VENV)/.installed
	$(RUN) -m jobs.demo --output $(DEMO)

test: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		echo "no chromium and chromedriver (apt-get install chromium chromium-driver): the pick page is not tested"
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/.installed-test
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) $(DEMO)
