# Everything a contributor runs. Needs Python >= 3.10 and make; CONTRIBUTING.md has the same commands for systems without make.
PYTHON ?= python3
VENV ?= .venv
export VENV
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help environment demo comfyui test check bench gpu torture format clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST)

environment:  ## .venv with torch and both ComfyUI versions; made once, about 6 GB
	@$(PYTHON) tools/environment.py

demo: environment  ## an image becomes a video, in ComfyUI; ARGS="--checkpoint FILE" for a released model
	@$(BIN)/python tools/demo.py $(ARGS)

comfyui: environment  ## ComfyUI at 127.0.0.1:8188 with the pack and its workflows; ARGS go to ComfyUI
	@$(BIN)/python tools/comfyui.py $(ARGS)

test: environment  ## all tests, in both ComfyUI versions; ARGS go to pytest
	@$(BIN)/python tools/run_tests.py $(ARGS)

check: environment  ## format, lint, types and the fast tests without a host
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q --fast -n auto --maxprocesses 4 tests/core tests/tools tests/test_house.py tests/test_documents.py

bench: environment  ## what the models cost on this machine; ARGS="--size 512" for a released size
	$(BIN)/python -m benchmarks $(ARGS)

gpu:  ## whether it is right, small and fast on this machine's CUDA device, with the torch there is; ARGS="--rehearse" on a CPU
	@$(PYTHON) -m benchmarks.gpu $(ARGS)

torture: environment  ## broken files, kills, full disks: a table; ARGS="jobs cli --minutes 60" for some of it, and longer
	@$(BIN)/python -m benchmarks.torture $(ARGS)

format: environment  ## rewrite the sources in the one style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches and build products; the environment stays
	rm -rf build dist $(filter-out out/comfyui,$(wildcard out/*)) *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
