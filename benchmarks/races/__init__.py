"""Which cache ends stale: races of docs/races.md, forced from outside on this cache and on packages from PyPI."""
