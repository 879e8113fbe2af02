"""Corral and its peers, in one run, on one model file: `python -m benchmarks --help`."""
