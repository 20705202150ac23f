# Every target installs what it needs into .venv and can be run first thing on a fresh machine.
# constraints.txt holds the version of every package, and says what torch brings with it.
#   make serve TORCH=cpu         torch's build for CPUs: 0.2 GB to fetch instead of 2.7 GB
#   make serve CONSTRAINTS=      the newest versions that pyproject.toml allows
#   make serve PYTHON=python3.12 another Python than python3
PYTHON ?= python3
CONSTRAINTS ?= -c constraints.txt
TORCH ?=
VENV ?= .venv
BIN := $(VENV)/bin
# Shows how far an installation has come; the pip that comes with Python may not.
PIP := pip==26.1.2
CPU_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu
SENTENCES ?=

.PHONY: serve test test-clients test-conditions test-newest upgrade lint format loadtest locust bench bench-peers clean

serve: $(VENV)/serve.installed  ## run the service on its embedded default model
	$(BIN)/batcher serve

# A test that hangs ends its pytest process; with a new one in its place xdist would wait for ever.
test: $(VENV)/test.installed  ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

test-clients: $(VENV)/test.installed  ## clients of other projects, of Python and Node, in environments of their own
	$(BIN)/python -m tests.clients.environments
	$(BIN)/python -m pytest tests/clients -rs

test-conditions: $(VENV)/test.installed  ## the test suite on a young clock, in another locale, …
	.ci/conditions $(BIN)/python

test-newest:  ## the test suite on the newest versions allowed, in an environment of its own
	@rm -f .venv-newest/*.installed  # what was the newest at the last run
	@mkdir -p build && grep '^torch==' constraints.txt > build/torch.txt
	$(MAKE) VENV=.venv-newest CONSTRAINTS='--upgrade --upgrade-strategy eager -c build/torch.txt' test

upgrade: .venv-upgrade/bin/uv  ## write constraints.txt anew: the newest versions allowed
	.ci/upgrade .venv-upgrade/bin/uv

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
	$(LOCUST) --headless --users 20 --spawn-rate 20 --run-time 60s --html build/loadtest.html

locust: $(VENV)/test.installed  ## Locust's page, http://127.0.0.1:8089, against a running service
	$(LOCUST) --web-host 127.0.0.1

bench: $(VENV)/test.installed  ## this service against two baselines, side by side; writes results/
	$(BIN)/python -m loadtests compare $(if $(SENTENCES),--sentences $(SENTENCES))

PEERS ?= .venv-peers
bench-peers: $(VENV)/test.installed  ## beside LitServe, mosec, Ray Serve and others; writes results/
	$(BIN)/python -m loadtests.peers.install $(PEERS)
	$(BIN)/python -m loadtests peers --environments $(PEERS) $(if $(SENTENCES),--sentences $(SENTENCES))

clean:
	rm -rf $(VENV) .venv-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Says in one line what is wrong with this Python; nothing is made before it agrees.
define CHECK_PYTHON
import sys
if sys.version_info < (3, 11):
    sys.exit("batcher needs Python 3.11 or newer, and %s is %d.%d: install one and name it, as in"
             " make PYTHON=python3.12 (after make clean, if .venv is there)" % ((sys.executable,) + sys.version_info[:2]))
endef
export CHECK_PYTHON

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "there is no $(PYTHON): install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c "$$CHECK_PYTHON"
	@echo "making $(VENV), with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(PIP)' || { rm -rf $(VENV); exit 1; }

EXTRAS := service,default-model,cpu
define INSTALL
	@$(BIN)/python -c "$$CHECK_PYTHON"
	@echo "installing into $(VENV): a few minutes the first time; the longest part is torch"
	$(BIN)/python -m pip install --disable-pip-version-check $(CONSTRAINTS) $(if $(filter cpu,$(TORCH)),$(CPU_INDEX)) -e '.[$(EXTRAS)]'
endef

$(VENV)/serve.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL)
	@touch $@

$(VENV)/test.installed: EXTRAS := $(EXTRAS),loadtest,test,examples,lint
$(VENV)/test.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL)
	@touch $@ $(VENV)/serve.installed

.venv-upgrade/bin/uv:
	$(PYTHON) -m venv .venv-upgrade
	.venv-upgrade/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
