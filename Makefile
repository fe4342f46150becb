# What there is to run. `make` alone lists it; every target sets up what it needs first.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Relative, so that a checkout may lie in a path with spaces.
python := .venv/bin/python
bundle := $(python) -m monai.bundle run

##@ Use
demo: data oracle  ## Phantom knees, a short training, the shipped weights on unseen knees: a page to look at
	@echo "1/3  Training from nothing for some minutes (it shows that the chain works, not how well)."
	$(bundle) training --config_file "['configs/train.json','configs/smoke.json']"
	@echo "2/3  One film, as a user would: the volume, its sidecar and a contact sheet in demo/."
	film=$$(find data/phantom_oai/00m -name 001 | sort | while read -r file; do \
		[ -e "$${file%001}002" ] || { echo "$$file"; break; }; done); \
	$(python) scripts/synthesise.py "$$film" --side R --out demo
	@echo "3/3  The shipped weights on test participants that they have never seen."
	$(bundle) evaluation --config_file "['configs/inference.json','configs/evaluate.json','configs/demo.json']"
	@test -s demo/report.html
	@echo "Look at: $(CURDIR)/demo/report.html"

data: data/phantom/dataset.json  ## Make the phantom cohort in data/, once

# Of this seed's forty the hash puts six into the test split, whose films were read as KL 0, 0, 1, 2, 3 and 4.
seed := 1235

# The cohort is made once: `make clean` removes it. Both scripts resume after an interruption.
data/phantom/dataset.json: | env
	@echo "Making 40 phantom participants in data/phantom_oai (OAI's layout), and from them the pairs in data/phantom."
	$(python) scripts/make_phantom.py --out data/phantom_oai --participants 40 --seed $(seed) --size demo
	$(python) scripts/prepare_data.py --oai data/phantom_oai --out data/phantom --split-file data/phantom.csv

# What else could lie behind the test participants' films: no model can do better than the mean of enough of these.
oracle: data/phantom_oracle/00m/contents.csv
data/phantom_oracle/00m/contents.csv: data/phantom/dataset.json
	$(python) scripts/make_phantom.py --out data/phantom_oracle --participants 40 --seed $(seed) --size demo \
		--posterior 4 --given film,readings --only $$(sed -n 's/,test$$//p' data/phantom.csv)

# Participants of another seed in every round: the demo's stay unseen.
data/weights/dataset.json: | env
	$(python) scripts/make_phantom.py --out data/weights_oai --participants 600 --seed 1 --enrich --size demo
	$(python) scripts/prepare_data.py --oai data/weights_oai --out data/weights --size 128

.PRECIOUS: data/weights-%/dataset.json
data/weights-%/dataset.json: PEOPLE = 640
data/weights-%/dataset.json: ALL_READ = 0
data/weights-%/dataset.json: | env
	$(python) scripts/make_phantom.py --out data/weights_oai-$* --participants $(PEOPLE) --seed $* --enrich \
		--all-read $(ALL_READ) --size demo
	@# Thirty of them validate, nobody tests: the test participants are of other seeds.
	ls data/weights_oai-$*/00m/*/ | grep '^9' | sort -u | awk 'BEGIN { print "participant,split" } \
		{ print $$1 "," (NR > 30 ? "training" : "validation") }' > data/weights-$*.csv
	$(python) scripts/prepare_data.py --oai data/weights_oai-$* --out data/weights-$* --size 128 \
		--split-file data/weights-$*.csv

data/twins/switched/dataset.json: | env
	$(python) scripts/make_phantom.py --out data/twins/own_oai --participants 220 --seed 6 --all-read 0.4 --size demo
	$(python) scripts/make_phantom.py --out data/twins/switched_oai --participants 220 --seed 6 --all-read 1 --size demo \
		--switch cyst
	ls data/twins/own_oai/00m/*/ | grep '^9' | sort -u | awk 'BEGIN { print "participant,split" } \
		{ print $$1 "," (NR > 20 ? "training" : "validation") }' > data/twins/split.csv
	$(python) scripts/prepare_data.py --oai data/twins/own_oai --out data/twins/own --size 128 \
		--split-file data/twins/split.csv
	$(python) scripts/prepare_data.py --oai data/twins/switched_oai --out data/twins/switched --size 128 \
		--split-file data/twins/split.csv

# On a processor that has no bfloat16 float32 is faster: make weights PRECISION=float32.
PRECISION := bfloat16
weights: data/weights/dataset.json  ## Train the shipped weights from nothing (9 hours on 2 cores; stop and go on at will)
	$(bundle) training --config_file "['configs/train.json','configs/slices.json']" --dataset_dir data/weights \
		--run_name weights --precision $(PRECISION) --readings_dropout 0.25 --slices_per_volume 4 \
		--autoencoder_epochs 5 --mean_epochs 45 --epochs 14 --val_interval 14
	$(MAKE) weights-2 $(alone) START=runs/weights/model.pt
	$(MAKE) weights-3 $(alone) START=runs/weights-2/model.pt PEOPLE=900
	$(MAKE) weights-4 $(alone) START=runs/weights-3/model.pt PEOPLE=840
	$(MAKE) weights-attention START=runs/weights-4/model.pt
	$(MAKE) weights-decoder START=runs/weights-attention-2/model.pt PEOPLE=1300 ALL_READ=0.7
	$(MAKE) weights-5 START=runs/weights-decoder/model.pt MEAN_EPOCHS=18 EPOCHS=2 \
		READINGS="--new_parts \"['unet.readings_head']\" --new_parts_factor 5" SHIP=
	$(MAKE) weights-twins START=runs/weights-5/model.pt
alone := CONFIGS="'configs/train.json','configs/slices.json'" SLICES=4 SHIP=

# What lets slices see each other is trained last, between layers that stay as they are (decision 014).
weights-attention: START = runs/weights-4/model.pt
weights-attention: data/weights-4/dataset.json
	$(attention) --pretrained $(START) --run_name weights-attention --epochs 11 --learning_rate 0.001 --val_interval 11
	$(attention) --pretrained runs/weights-attention/model.pt --run_name weights-attention-2 \
		--epochs 10 --learning_rate 0.0007 --val_interval 10
attention = $(bundle) training --config_file configs/train.json --dataset_dir data/weights-4 --stages "['diffusion']" \
	--trained_parts "['unet.mixers']" --precision $(PRECISION) --readings_dropout 0.25

# The decoder goes on learning; latents, and so all that was learnt of them, stay what they are.
weights-decoder: data/weights-5/dataset.json
	$(bundle) training --config_file configs/train.json --dataset_dir data/weights-5 --run_name weights-decoder \
		--pretrained $(START) --stages "['autoencoder']" --autoencoder_trained_parts "['decoder','post_quant_conv']" \
		--autoencoder_epochs 2 --autoencoder_learning_rate 0.0006 --precision $(PRECISION)

# What the mean head makes of readings is learnt anew, from twins: the same people with a cyst wherever they had none
# (decision 016).
weights-twins: START = runs/weights-5/model.pt
weights-twins: data/twins/switched/dataset.json
	$(bundle) training --config_file configs/train.json --dataset_dir data/twins/own --twins_dir data/twins/switched \
		--run_name weights-twins --pretrained $(START) --stages "['mean']" --precision $(PRECISION) \
		--fresh_parts "['mean_head.told','mean_head.*.modulation']" --mean_trained_parts "['told','*.modulation']" \
		--twin_weight 1000 --readings_dropout 0.25 --mean_epochs 16 --mean_learning_rate 0.001
	$(if $(SHIP),cp runs/weights-twins/model.pt models/model.pt.part)
	$(if $(SHIP),mv models/model.pt.part models/model.pt)

# Optimisers and warm-up start afresh; the weights keep a line about each round.
CONFIGS := 'configs/train.json'
SLICES := 8
MEAN_EPOCHS := 14
EPOCHS := 20
READINGS :=
SHIP := yes
weights-%: START = models/model.pt
weights-%: data/weights-%/dataset.json  ## A further round: mean head and denoiser go on from the shipped weights, new people
	$(bundle) training --config_file "[$(CONFIGS)]" --dataset_dir data/weights-$* --run_name weights-$* \
		--pretrained $(START) --stages "['mean','diffusion']" --precision $(PRECISION) --readings_dropout 0.25 \
		--mean_epochs $(MEAN_EPOCHS) --mean_learning_rate 0.0006 --epochs $(EPOCHS) --learning_rate 0.0003 \
		--slices_per_volume $(SLICES) --val_interval $(EPOCHS) $(READINGS)
	$(if $(SHIP),cp runs/weights-$*/model.pt models/model.pt.part)
	$(if $(SHIP),mv models/model.pt.part models/model.pt)
	@echo "Weights: $(CURDIR)/$(if $(SHIP),models/model.pt,runs/weights-$*/model.pt)"

knee-finder: env  ## Train the knee finder (half an hour on 2 cores; goes on from its last epoch)
	$(bundle) training --config_file configs/train_knee_finder.json
	cp runs/knee_finder/knee_finder.pt models/knee_finder.pt.part
	mv models/knee_finder.pt.part models/knee_finder.pt
	@echo "Knee finder: $(CURDIR)/models/knee_finder.pt"

tables-smoke: env  ## Every row of the table in about a minute each, on tiny phantoms: proves the chain, ranks nothing
	$(python) scripts/tables.py configs/tables/smoke.json --out runs/tables-smoke

PLAN := full
tables: env  ## Every row, tuned alike, three seeds, learning curve: days on 2 cores; PLAN=short is 1.5 h, MINUTES=90 a piece
	$(python) scripts/tables.py configs/tables/$(PLAN).json --out runs/tables-$(PLAN) --results docs/results/tables \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(WORKERS),--workers $(WORKERS))

DIR := runs/compact
mlflow: env  ## Look at what --tracking mlflow recorded: DIR=runs/compact, PORT=5000; on this machine alone
	@[ -f "$(DIR)/mlruns.db" ] || { echo "$(DIR) has no mlruns.db; train or evaluate with --tracking mlflow, or name DIR=..." >&2; exit 1; }
	@echo "Open http://127.0.0.1:$(or $(PORT),5000) (stop with Ctrl-C)."
	@MLFLOW_DISABLE_TELEMETRY=true $(python) -m mlflow ui --backend-store-uri "sqlite:///$(DIR)/mlruns.db" \
		--default-artifact-root "$(DIR)/mlruns" --host 127.0.0.1 --port $(or $(PORT),5000) --workers 1

label: $(if $(STUDIES),,data)  ## MONAI Label's server on 127.0.0.1, for 3D Slicer or OHIF (STUDIES=... PORT=...)
	@sh requirements/install.sh label
	.venv-label/bin/python scripts/serve_label.py $(if $(STUDIES),--studies "$(STUDIES)") $(if $(PORT),--port $(PORT))

zoo: env  ## A clean export of HEAD for the model zoo in dist/, checked
	$(python) scripts/export_zoo.py --out dist

##@ Develop
# A thread a process: two processes with two threads each on two cores wait for each other, three times as long.
test: env-dev  ## The tests that take seconds each (under 12 minutes with set-up)
	OMP_NUM_THREADS=1 $(python) -m pytest -m "not slow and not gpu" --numprocesses 2 --dist loadfile

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
	$(python) -m uv pip compile $(lock_options) requirements/audit.in --output-file requirements/audit.txt
	$(python) -m uv pip compile $(lock_options) requirements/label.in --output-file requirements/label.txt
lock_options := --quiet --universal --python-version 3.11 --generate-hashes --no-header $(if $(UPGRADE),--upgrade)

# What looks at the lock has an environment of its own, locked and hashed like the others.
.venv-audit/.ready: requirements/audit.txt | env
	rm -rf .venv-audit
	$(python) -m uv venv --quiet .venv-audit
	$(python) -m uv pip install --quiet --python .venv-audit/bin/python --require-hashes -r requirements/audit.txt
	@touch $@

sbom: .venv-audit/.ready  ## Software bill of materials of the lock (CycloneDX): dist/sbom.json
	@mkdir -p dist
	.venv-audit/bin/python -m cyclonedx_py requirements requirements/run.txt --pyproject pyproject.toml \
		--output-reproducible --output-format JSON --output-file dist/sbom.json
	@echo "Bill of materials: $(CURDIR)/dist/sbom.json"

licences: .venv-audit/.ready  ## Licences of everything in the lock for running, by pip-licenses: docs/licences.md
	.venv-audit/bin/python -m piplicenses --python $(python) --from mixed --format csv --with-system --with-urls \
		--output-file .venv-audit/licences.csv
	$(python) scripts/list_licences.py .venv-audit/licences.csv --lock requirements/run.txt --out docs/licences.md

clean:  ## Remove environment, phantom data and caches; runs/ and models/ stay
	rm -rf .venv .venv-label .venv-audit data demo dist eval *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z%-]+:.*## / { sub("%", "N", $$1); printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Needs Python 3.11 or newer and nothing else; make PYTHON=... names one."

# The environments: .venv with the lock for running, or with the one for developing.
env: eval/schema.json
	@sh requirements/install.sh run
env-dev: eval/schema.json
	@sh requirements/install.sh dev

# MONAI's verify_metadata takes the schema that lies here, and asks the network only where none does.
eval/schema.json: tests/data/meta_schema_20240725.json
	@mkdir -p eval
	@cp tests/data/meta_schema_20240725.json eval/schema.json

.PHONY: demo data weights knee-finder mlflow label zoo sbom licences tables-smoke tables test test-real lint lock clean help env env-dev
