"""How the API is served: what gunicorn needs beyond its own settings."""
