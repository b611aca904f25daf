"""Fault injection with real processes: gunicorn, Valkey, PostgreSQL and the three services under load.

`python -m faults` runs a catalogue of faults, each between a control and a recovery phase, records what every
request saw, and checks that history with the pure functions of `checkers.py`.
"""
