.PHONY: help check fix test slow bench

help:  ## what there is
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

check:  ## lint, types
	ruff check . && ruff format --check . && mypy

fix:  ## format, mend what can be mended
	ruff check --fix . && ruff format .

test:  ## the default suite, on every core; six minutes at most on two
	python -m pytest -n auto --maxprocesses 4 --dist loadfile

slow:  ## the tests that are left out of the default suite
	python -m pytest -m slow

bench:  ## measure
	python -m benchmarks
