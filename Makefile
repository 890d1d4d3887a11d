# Every target sets itself up in .venv on a bare Linux with Python 3.11 or newer, its venv module and make.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
# What is tested is what is installed; `make CONSTRAINTS= .venv/stamp` takes the newest versions instead.
CONSTRAINTS ?= -c constraints.txt

.DELETE_ON_ERROR:
DEMOS := demo-colour-to-positive demo-colour-to-negative demo-words demo-to-positive demo-to-negative demo-generated
.PHONY: demo $(DEMOS) test fuzz test-large test-lowest lint lock wheel clean

# Two at a time, each with one thread and its output in one piece; the longest first.
demo: .venv/stamp
	mkdir -p demo
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j2 --output-sync=target $(DEMOS)
	@echo
	@echo "Open demo/colour-to-positive.png and demo/colour-to-negative.png, and in gray demo/negative-to-positive.png and"
	@echo "demo/positive-to-negative.png: source, counterfactual, difference."
	@echo "Changed by the words 'a parasitized cell' alone, with no classifier to steer: demo/words.png (docs/conditions.md)."
	@echo "Cells that never were, from noise: demo/generated.png (docs/generate.md)."
	@echo "The same cells, as data: demo/negative-to-positive.h5 and demo/positive-to-negative.h5 (docs/hdf5.md)."

demo-colour-to-positive:
	$(BIN)/cfdiff translate --data malaria-cells-rgb --from negative --to positive --limit 3 --force \
		--out demo/colour-to-positive.h5 --preview demo/colour-to-positive.png
demo-colour-to-negative:
	$(BIN)/cfdiff translate --data malaria-cells-rgb --from positive --to negative --limit 3 --force \
		--out demo/colour-to-negative.h5 --preview demo/colour-to-negative.png
demo-words:
	$(BIN)/cfdiff translate --config configs/malaria-cells/by-words.toml --to-text "a parasitized cell" --limit 3 --force \
		--out demo/words.h5 --preview demo/words.png
demo-to-positive:
	$(BIN)/cfdiff translate --from negative --to positive --limit 8 --force \
		--out demo/negative-to-positive.h5 --preview demo/negative-to-positive.png
demo-to-negative:
	$(BIN)/cfdiff translate --from positive --to negative --limit 8 --force \
		--out demo/positive-to-negative.h5 --preview demo/positive-to-negative.png
demo-generated:
	$(BIN)/cfdiff generate --images 12 --steps 8 --force --out demo/generated.h5

# Two workers of one thread each: two threads in each of two processes would wait for one another.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Unsound inputs and kills, as many as one likes (CI tries some): make fuzz N=20000 FIRST=160 KIND=h5+npz KILLS=200
fuzz: .venv/stamp
	OMP_NUM_THREADS=1 FUZZ_N=$(or $(N),5000) FUZZ_FIRST=$(or $(FIRST),0) FUZZ_KIND=$(KIND) FUZZ_KILLS=$(or $(KILLS),200) \
		$(BIN)/python -m pytest -s tests/robustness

# What takes many minutes: a thousand parts on a Ray cluster of two nodes, of which a tenth of the workers is killed.
test-large: .venv/stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m large

# The oldest versions that pyproject.toml allows, in an environment of their own (some GB; not in CI).
test-lowest:
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	$(PYTHON) .ci/lowest.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install -c .venv-lowest/lowest.txt -e . pytest hypothesis
	.venv-lowest/bin/python -m pytest -m "not slow"

lint: .venv/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: .venv/stamp
	$(BIN)/python -m build --wheel --no-isolation

# Write down what .venv holds now, after `make test` has passed on it.
lock: .venv/stamp
	$(BIN)/python .ci/lock.py > constraints.tmp
	mv constraints.tmp constraints.txt
	touch .venv/stamp

.venv/stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	touch $@

clean:
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
