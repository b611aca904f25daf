"""`make demo`: sample data, the service under gunicorn, and the output."""
