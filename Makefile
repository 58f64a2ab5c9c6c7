# make figures    own .venv with the locked packages, then every figure, table, claim and the page
# make test       own .venv, then the fast tests
# Variables of `make figures`: SCALE=smoke|laptop|gpu|paper  ARTEFACT=fsf_fig1c  CORES=2|all  CONFIG=my.yaml
SHELL := bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
CORES ?= all
SCALE ?=
ARTEFACT ?=
CONFIG ?=

# --- every variable is checked before anything is installed or run ----------------------------------------------------
VARIABLES := PYTHON CORES SCALE ARTEFACT CONFIG
SCALES := $(sort $(basename $(notdir $(wildcard workflow/scales/*.yaml))))
include workflow/targets.mk
NUMBER := $(shell [[ '$(subst ','',$(CORES))' =~ ^[1-9][0-9]*$$ ]] && echo yes)
given = $(foreach name,$(.VARIABLES),$(if $(filter command line,$(origin $(name))),$(name)))
unknown = $(filter-out $(VARIABLES) MAKEFLAGS,$(given))
$(if $(unknown),$(error make variable $(firstword $(unknown)) = '$($(firstword $(unknown)))': unknown, allowed: $(VARIABLES)))
$(if $(filter-out $(SCALES),$(SCALE)),$(error make variable SCALE = '$(SCALE)': unknown scale, allowed: $(SCALES)))
$(if $(filter-out $(ARTEFACTS),$(ARTEFACT)),$(error make variable ARTEFACT = '$(ARTEFACT)': unknown artefact, allowed: $(ARTEFACTS)))
$(if $(filter-out all,$(CORES))$(if $(CORES),,empty),$(if $(NUMBER),,$(error make variable CORES = '$(CORES)': allowed: all or a number from 1)))
$(if $(CONFIG),$(if $(wildcard $(CONFIG)),,$(error make variable CONFIG = '$(CONFIG)': no such file, allowed: a YAML file like config.yaml)))
# Snakemake's own message about a file without settings does not say which one it is.
settings = $(shell grep -m1 '^[[:space:]]*[^[:space:]#]' '$(subst ','"'"',$1)')
$(foreach file,$(CONFIG),$(if $(call settings,$(file)),,$(error make variable CONFIG = '$(file)': holds no settings, allowed: a YAML file like config.yaml, or no CONFIG)))

# --- environment ------------------------------------------------------------------------------------------------------
VENV := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# One thread a process: the workflow and the tests run several processes, and results stay equal byte for byte.
export OMP_NUM_THREADS := 1
# Hundreds of processes read the same sources: what they compile is kept.
unexport PYTHONDONTWRITEBYTECODE

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@test -x $(VENV) || $(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet -r requirements.lock
	$(VENV) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# --- what a user calls ------------------------------------------------------------------------------------------------
.PHONY: help venv figures test test-all lint format clean

help: ## this list
	@sed -n 's/^# \(make .*\|Variables .*\)/\1/p' Makefile
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1: \2/p' Makefile

venv: .venv/installed ## the locked environment in .venv

figures: .venv/installed ## figures, tables, claims and page under results/<scale>/
	$(VENV) -m snakemake --cores $(CORES) $(ARTEFACT) $(if $(CONFIG),--configfile $(CONFIG)) $(if $(SCALE),--config scale=$(SCALE))

test: .venv/installed ## fast tests, the end-to-end smoke run included
	$(VENV) -m pytest -n 2 --dist worksteal

test-all: .venv/installed ## slow tests: kill, browser, cluster, benchmark
	$(VENV) -m pytest -m slow

lint: .venv/installed ## ruff, mypy on the public modules, snakefmt, snakemake --lint
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy
	.venv/bin/snakefmt --check Snakefile workflow
	$(VENV) -m snakemake --lint

format: .venv/installed ## rewrite the sources in the house format
	$(VENV) -m ruff check --fix .
	$(VENV) -m ruff format .
	.venv/bin/snakefmt Snakefile workflow

clean: ## remove what runs have made; the environment and results/reference stay
	find results -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} + 2>/dev/null; rm -rf logs .snakemake
