"""Faults with real processes: gunicorn, Valkey, PostgreSQL and the three services under load, broken on purpose.

`python -m faults` runs a catalogue of faults, each with a phase of control before and of recovery after, writes
down what every request saw, and checks that history by the pure functions of `checkers.py`.
"""
