"""`wsgi:app` with one protection taken out; for experiments alone. See `broken.py`."""

from faults import broken

broken.apply_from_environment()

from servease_appt.app import create_app  # noqa: E402 - made by what is left

app = create_app()
