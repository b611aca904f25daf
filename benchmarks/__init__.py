"""How fast the service is, and against whom: `make bench` and `make bench-quick`.

Every figure is a median with its spread, and a ratio against a baseline that was measured in the same run, in
turns with it, so that a busy machine slows both alike. `python -m benchmarks --help` says how to run one part.
"""
