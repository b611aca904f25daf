"""The service under gunicorn, one for each test module that takes it."""

from tests.support.service_fixtures import cli, client, no_other_workers, patient_doctor, served

__all__ = ["cli", "client", "no_other_workers", "patient_doctor", "served"]
