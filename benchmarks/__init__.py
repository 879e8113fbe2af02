"""Corral measured beside its peers, in one run, on one model file: `python -m benchmarks --help`."""
