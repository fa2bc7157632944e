"""Reproducible measurements: `./dev bench NAME`; JSON in `bench/results/`, drawn up in `docs/benchmarks.md`."""
