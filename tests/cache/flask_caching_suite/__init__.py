"""Flask-Caching's own tests, run with TwoTierBackend in the place of its own backends."""
