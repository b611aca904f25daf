"""`make demo`: sample data, the service under gunicorn, and what is printed."""
