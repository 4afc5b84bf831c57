# make help     this list
# make demo     simulate, reconstruct, evaluate: a picture in a minute
# make test     the whole test suite
# make fuzz     damage files of every kind: a table, and a failure if one is read wrongly
# make test-ptychodus  the tests of the ptychodus extension, with another version of it
# make check    linters, types, import contracts, docstrings, dependencies
# make docs     the documentation as a site, in site/; any warning is an error
# make gpu      patterns a second on this machine's GPU, in gpu.json; a few minutes
# make package  wheel and sdist in dist/, installed into an empty environment and tried
#
# Each works alone after a clone: it makes .venv and installs what it needs.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
CORE := $(VENV)/.core
INSTALLED := $(VENV)/.installed
EXTRAS := dev,docs,ptychodus,formats,dask,s3,mlflow,tensorboard,tensorflow
OUT := demo

# The version of ptychodus that `test-ptychodus` takes; `test` takes the one in the constraints.
PTYCHODUS ?= 1.6.0
OTHER := $(VENV)-ptychodus-$(PTYCHODUS)

# All of them, unless others are named: PTYCHODUS_TESTS='-k "choice or convert"'
PTYCHODUS_TESTS ?=

# What users read: their docstrings are complete.
PUBLIC := $(addprefix ptychostream/, scan.py physics.py patches.py geometry.py errors.py \
	legacy.py workflows.py config datasets/sources/__init__.py datasets/store/build.py \
	datasets/store/append.py datasets/store/group_store.py datasets/store/scans.py \
	datasets/batches/batch.py datasets/batches/loader.py simulation/experiment.py \
	simulation/experiments.py simulation/labels.py simulation/detector.py training/train.py \
	reconstruction/reconstruct.py models/pinn.py persistence/bundle.py persistence/archive.py \
	evaluation/evaluate.py ptychopinn/spec.py ptychopinn/raw_data.py ptychopinn/container.py)

.PHONY: help demo fuzz test test-ptychodus check docstrings docs package pictures gpu install clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED)

# What users have; the demonstration needs no more.
$(CORE): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) torch
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable .
	touch $@

# All at once: pip looks at each dependency once.
$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) torch --editable '.[$(EXTRAS)]'
	touch $(CORE) $@

demo: $(CORE)
	$(BIN)/ptychostream simulate $(OUT)/scan.npz --num_positions 900 --nphotons 1e5 --overwrite
	$(BIN)/ptychostream reconstruct $(OUT)/scan.npz -o $(OUT)/result --overwrite
	$(BIN)/ptychostream evaluate $(OUT)/result/object.npz --reference $(OUT)/scan.npz
	@echo "open $(OUT)/result/report.html"

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# All but that one package is taken from the first environment.
test-ptychodus: $(INSTALLED)
	$(PYTHON) -m venv --without-pip $(OTHER)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$($(OTHER)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/rest.pth
	$(BIN)/pip --python $(OTHER)/bin/python install --quiet --no-deps 'ptychodus==$(PTYCHODUS)'
	$(OTHER)/bin/python -m pytest tests/ptychodus_ext $(PTYCHODUS_TESTS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/numpydoc lint $$(git ls-files $(PUBLIC))
	$(BIN)/deptry .

docstrings: $(INSTALLED)
	$(BIN)/numpydoc lint $$(git ls-files $(PUBLIC))

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

pictures: $(INSTALLED)
	$(BIN)/python examples/run_page.py docs/tutorial.md --pictures docs/images
	$(BIN)/python examples/gallery.py docs/images/simulation.png
	$(BIN)/python examples/geometry_drawing.py docs/images/geometry.png
	$(BIN)/python examples/house.py docs/images/house.png

package: $(INSTALLED)
	rm -rf dist build
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	$(BIN)/python tests/try_package.py dist

gpu: $(CORE)
	$(BIN)/python benchmarks/gpu.py gpu.json

clean:
	rm -rf $(VENV) $(VENV)-ptychodus-* $(OUT) site dist build

# Cases of damage for each kind of file.
FUZZ ?= 400

fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz/run.py $(FUZZ)
