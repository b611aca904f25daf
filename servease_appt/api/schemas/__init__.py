"""Marshmallow schemas: what clients may send, and what they get."""
