"""Metrics, logs, health and the checks that run beside the requests."""
