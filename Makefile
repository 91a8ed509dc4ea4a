# Everything here works in a fresh clone: the first target that needs it makes .venv with the pinned dependencies.

PYTHON ?= python3
READY := .venv/.ready

.PHONY: setup draw test lint bench experiments
setup: $(READY)

# Torch is pinned with the rest. To bring your own, see "Your own torch" in README.md.
$(READY): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -c constraints.txt -e '.[train,dev]'
	touch $@

# The prompt goes from make's variable to the program's environment as it is: `value` and `:=` keep make from
# expanding a `$` in it, and it never stands on a line that a shell reads. Make would export a variable of its
# command line expanded, hence `unexport`.
unexport PROMPT
draw: export STROKES_PROMPT := $(value PROMPT)
draw: $(READY)
	.venv/bin/strokes-draw $(ARGS)

test: $(READY)
	.venv/bin/python -m pytest $(ARGS)

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The next cell of each grid that docs/results does not hold yet: the paper's tables, those of docs/rl.md, and of docs/parm.md.
experiments: $(READY)
	.venv/bin/python -m strokes.rl.reproduction $(ARGS)
	.venv/bin/python -m strokes.rl.experiments
	.venv/bin/python -m strokes.rl.comparison

bench: $(READY)
	.venv/bin/python -m pytest -m bench -s $(ARGS)
