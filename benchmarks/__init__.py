"""Benchmarks of the service and of other caches: `make bench` and `make bench-quick`.

Every figure is a median with its spread, and a ratio to a baseline that was measured in turns with it in the same
run, so that other load slows both alike. `python -m benchmarks --help` says how to run one part.
"""
