# Every target installs what it needs into .venv and can be run first thing on a fresh machine.
# On a CUDA machine: make serve CONSTRAINTS=   (takes the newest torch with CUDA)
PYTHON ?= python3
CONSTRAINTS ?= -c constraints.txt
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS)
SENTENCES ?=

.PHONY: serve test lint format loadtest locust bench bench-peers clean

serve: $(VENV)/serve.installed  ## run the service on its embedded default model
	$(BIN)/python -m service

test: $(VENV)/test.installed  ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/test.installed  ## linter, formatter, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/test.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

HOST ?= http://127.0.0.1:8000
RATE ?= 20
LOCUST = $(BIN)/locust -f loadtests/locustfile.py --host $(HOST) --rate $(RATE)

loadtest: $(VENV)/test.installed  ## Locust for a minute against a running service; leaves build/loadtest.html
	@mkdir -p build
	$(LOCUST) --headless --users 20 --run-time 60s --html build/loadtest.html

locust: $(VENV)/test.installed  ## Locust's page, http://127.0.0.1:8089, against a running service
	$(LOCUST) --web-host 127.0.0.1

bench: $(VENV)/test.installed  ## this service against two baselines, side by side; writes results/
	$(BIN)/python -m loadtests compare $(if $(SENTENCES),--sentences $(SENTENCES))

PEERS ?= .venv-peers
bench-peers: $(VENV)/test.installed  ## beside LitServe, mosec, Ray Serve and others; writes results/
	$(BIN)/python -m loadtests.peers.install $(PEERS)
	$(BIN)/python -m loadtests peers --environments $(PEERS) $(if $(SENTENCES),--sentences $(SENTENCES))

clean:
	rm -rf $(VENV) .venv-peers build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/serve.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing the service into $(VENV) (a few minutes the first time)"
	$(INSTALL) -e '.[service,default-model,cpu]'
	@touch $@

$(VENV)/test.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing the service and its tests into $(VENV) (a few minutes the first time)"
	$(INSTALL) -e '.[service,default-model,cpu,loadtest,test,lint]'
	@touch $@ $(VENV)/serve.installed
