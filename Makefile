# make train        set up, then train the default machine on the embedded MNIST images
# make test         lint, then the tests with seeded slices of the long ones
# make test-long    every test in full; the log goes to tests/long_run.log
# make test-numpy   the tests that meet NumPy, at the oldest and the newest NumPy there is a Python for
# make test-peers   the tests that need torch, JAX, rbms and paysage, which are large, or old
# make lint         ruff (format and lint) and mypy
# make format       ruff's formatting and its safe fixes
# make docs         the documentation as a site in site/, every link checked
# make notebook     examples/colab.ipynb, executed on the CPU; ARGS=--overwrite stores its outputs
# make bench        the benchmarks, as Markdown on the screen and in runs/bench.md
# make clean        removes environments, builds and caches
#
# Each sets up what it needs: Python 3.11 or newer, make and a package registry are enough.
#   PYTHON=python3.12   another interpreter; it gets an environment of its own
#   NUMPY=2.0           that NumPy release series, likewise
#   ARGS="..."          more arguments for the command that runs (gpugrad train, pytest or the benchmarks)

PYTHON ?= python3
NUMPY ?=
ARGS ?=
# One worker for each core, up to four; each computes on one BLAS thread.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -lt 4 ] && echo $$n || echo 4)

VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))$(if $(NUMPY),-numpy-$(NUMPY))
BIN := $(VENV)/bin
NUMPY_PIN := $(if $(NUMPY),'numpy==$(NUMPY).*')
SINGLE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(SINGLE_THREAD) $(BIN)/python -m pytest
PARALLEL := $(if $(filter-out 0 1,$(WORKERS)),-n $(WORKERS) --dist worksteal)

.DELETE_ON_ERROR:
.PHONY: help train test test-only test-long test-numpy test-peers lint format bench docs notebook clean
help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

# $(call new_environment,FOLDER) and $(call install,FOLDER,EXTRAS)
define new_environment
@interpreter=$$(sh .ci/find-python "$(PYTHON)") && echo "creating $(1) with $$interpreter" && \
    "$$interpreter" -m venv --clear $(1)
endef
define install
@extras=$$(echo $(2) | tr ' ' ,) && echo "installing gpugrad[$$extras] into $(1)" && \
    $(1)/bin/python -m pip --disable-pip-version-check install -qq --editable ".[$$extras]" $(NUMPY_PIN)
endef

$(VENV)/created.stamp:
	$(call new_environment,$(VENV))
	@touch $@

$(VENV)/train.stamp: pyproject.toml | $(VENV)/created.stamp
	$(call install,$(VENV),train)
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(VENV)/created.stamp
	$(call install,$(VENV),train sklearn hdf test nvrtc dev)
	@touch $@

# Of its own: torch alone is several times what all others take.
$(VENV)-peers/peers.stamp: pyproject.toml
	$(call new_environment,$(VENV)-peers)
	$(call install,$(VENV)-peers,train sklearn hdf test peers)
	@touch $@

# An environment of its own: the pages are made with nothing that the package does not need.
$(VENV)-docs/docs.stamp: pyproject.toml
	$(call new_environment,$(VENV)-docs)
	$(call install,$(VENV)-docs,train sklearn docs)
	@touch $@

# A folder per run: gpugrad train refuses to write over an earlier one.
train: $(VENV)/train.stamp
	$(BIN)/gpugrad train mnist --output runs/mnist-$$(date +%Y%m%d-%H%M%S) $(ARGS)

test: lint
	@$(MAKE) --no-print-directory test-only

test-only: $(VENV)/test.stamp
	$(PYTEST) $(PARALLEL) $(ARGS)

test-long: lint
	sh tests/long_run.sh tests/long_run.log $(PYTEST) $(PARALLEL) --long $(ARGS)

# What does not meet NumPy (the kernels on the host compiler, packaging) is left out.
test-numpy:
	sh .ci/test-numpy-range $(ARGS)

test-peers: $(VENV)-peers/peers.stamp
	$(SINGLE_THREAD) $(VENV)-peers/bin/python -m pytest tests/boltzmann/test_interchange*.py tests/cli/test_exchange.py \
	    tests/test_dlpack.py tests/test_gradients.py tests/nnet tests/primitives/test_conv.py tests/primitives/test_pool.py $(ARGS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)-docs/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict --config-file .ci/mkdocs.yml $(ARGS)

notebook:
	sh .ci/notebook $(ARGS)

bench: $(VENV)/test.stamp
	$(BIN)/python -m tests.bench --output runs/bench.md $(ARGS)

clean:
	rm -rf .venv .venv-* build dist site *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
