# make demo runs the whole pipeline on drawn data. make test runs every check. Both install first what they need.
UV := .tools/bin/uv
CORES ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
export UV_PYTHON_DOWNLOADS = never
unexport PYTHONDONTWRITEBYTECODE  # PyTorch is slow to load without its bytecode, which the first job writes

.PHONY: demo test lint env clean

# Trainings have two threads: AffinityNet and DeepLab have nothing beside them. Classifiers go first, so that class maps of
# all of them are there to be made side by side. Images are small, so a network takes four at once.
demo: env
	.venv/bin/snakemake --cores $(CORES) --prioritize train --set-threads train=2 affinity=2 deeplab=2 --config batch=4
	@echo "The report, one page that needs no network: results/shapes/report/index.html"

test: env lint
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests -n $(CORES) --maxprocesses 4 --dist loadfile

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff check --preview --select PLW1514 workflow benchmarks slurm
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/snakefmt --check Snakefile workflow/Snakefile workflow/rules slurm profiles
	.venv/bin/snakemake --lint > /dev/null || .venv/bin/snakemake --lint

env: .venv/.complete

$(UV):
	python3 -m pip install --quiet --disable-pip-version-check --target .tools uv

.venv/.complete: pyproject.toml uv.lock $(UV)
	$(UV) sync --frozen --quiet
	touch $@

clean:
	rm -rf .venv .tools
