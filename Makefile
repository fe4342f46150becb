# What there is to run. `make` alone lists it; every target sets up what it needs first.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Relative, so that a checkout may lie in a path with spaces.
python := .venv/bin/python
bundle := $(python) -m monai.bundle run

##@ Use
demo: data  ## Phantom knees, a short training, evaluation: a page to look at
	@echo "Training the smoke-test model on phantom knees (minutes; it shows that the chain works, not how well)."
	$(bundle) training --config_file "['configs/train.json','configs/smoke.json']"
	@echo "Evaluating the shipped weights on the phantom's test participants."
	$(bundle) evaluation --config_file "['configs/inference.json','configs/evaluate.json']"
	@test -s eval/report.html
	@echo "Report: $(CURDIR)/eval/report.html"

data: data/phantom/dataset.json  ## Make the phantom cohort in data/, once

# The cohort is made once: `make clean` removes it. Both scripts resume after an interruption.
data/phantom/dataset.json: | env
	@echo "Making 40 phantom participants in data/phantom_oai (OAI's layout), and from them the pairs in data/phantom."
	$(python) scripts/make_phantom.py --out data/phantom_oai --participants 40 --seed 0 --size demo
	$(python) scripts/prepare_data.py --oai data/phantom_oai --out data/phantom

weights: data  ## Train the compact model and replace models/model.pt (long)
	$(bundle) training --config_file configs/train.json
	cp runs/compact/model.pt models/model.pt.part
	mv models/model.pt.part models/model.pt
	@echo "Weights: $(CURDIR)/models/model.pt"

##@ Develop
test: env-dev  ## The tests that take seconds each (under 12 minutes with set-up)
	$(python) -m pytest -m "not slow and not gpu"

test-real: env-dev  ## The slow and real tests (under 60 minutes); ends with what was skipped and why
	$(python) -m pytest -m "slow or gpu" -ra

lint: env-dev  ## Style and types
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

lock: env-dev  ## Lock again after a change of requirements/*.in (make lock UPGRADE=1 moves every pin)
	$(python) -m uv pip compile $(lock_options) requirements/uv.in --output-file requirements/uv.txt
	$(python) -m uv pip compile $(lock_options) requirements/run.in --output-file requirements/run.txt
	$(python) -m uv pip compile $(lock_options) requirements/dev.in --constraints requirements/run.txt \
		--output-file requirements/dev.txt
lock_options := --quiet --universal --python-version 3.11 --generate-hashes --no-header $(if $(UPGRADE),--upgrade)

clean:  ## Remove environment, phantom data and caches; runs/ and models/ stay
	rm -rf .venv .venv-label data/phantom data/phantom_oai demo dist eval *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Needs Python 3.11 or newer and nothing else; make PYTHON=... names one."

# The environments: .venv with the lock for running, or with the one for developing.
env:
	@sh requirements/install.sh run
env-dev:
	@sh requirements/install.sh dev

.PHONY: demo data weights test test-real lint lock clean help env env-dev
