# make demo: the whole pipeline on the embedded data set.   make test: every check.   Both install what they need first.
UV := .tools/bin/uv
CORES ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
export UV_PYTHON_DOWNLOADS = never

.PHONY: demo test lint env clean

demo: env
	.venv/bin/snakemake --cores $(CORES)
	.venv/bin/snakemake --report results/report.html --quiet all
	@echo "The report, one self-contained page: results/report.html"

test: env lint
	.venv/bin/python -m pytest tests

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/snakefmt --check Snakefile workflow/rules slurm
	.venv/bin/snakemake --lint > /dev/null || .venv/bin/snakemake --lint

env: .venv/.complete

$(UV):
	python3 -m pip install --quiet --disable-pip-version-check --target .tools uv

.venv/.complete: pyproject.toml uv.lock $(UV)
	$(UV) sync --frozen --quiet
	touch $@

clean:
	rm -rf .venv .tools
