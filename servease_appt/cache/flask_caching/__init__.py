"""The two-tier cache as a Flask-Caching backend, so that `@cache.cached` and `@cache.memoize` get both tiers.

app.config["CACHE_TYPE"] = "servease_appt.cache.flask_caching.TwoTierBackend"
app.config["CACHE_REDIS_URL"] = "redis://localhost:6379/1"
"""

from servease_appt.cache.flask_caching.backend import TwoTierBackend
from servease_appt.cache.flask_caching.one_run import TwoTierFlaskCache

__all__ = ["TwoTierBackend", "TwoTierFlaskCache"]
