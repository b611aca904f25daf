"""The dashboard of the cache at `/ops/cache/`."""
