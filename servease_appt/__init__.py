"""The ServEase appointment service.

The extension for Flask and the functions that read and invalidate cached references are imported when they are
first used: `servease_appt.cache` alone needs nothing but cachetools and redis.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servease_appt.extension import ServEase
    from servease_appt.references import (
        get_customer_cached,
        get_employee_cached,
        get_vehicle_cached,
        invalidate_customer_cache,
        invalidate_employee_cache,
        invalidate_vehicle_cache,
    )

__version__ = "0.2.0"
__all__ = [
    "ServEase",
    "__version__",
    "get_customer_cached",
    "get_employee_cached",
    "get_vehicle_cached",
    "invalidate_customer_cache",
    "invalidate_employee_cache",
    "invalidate_vehicle_cache",
]

_REFERENCES = "servease_appt.references"
_DEFINED_IN = {
    "ServEase": "servease_appt.extension",
    "get_customer_cached": _REFERENCES,
    "get_employee_cached": _REFERENCES,
    "get_vehicle_cached": _REFERENCES,
    "invalidate_customer_cache": _REFERENCES,
    "invalidate_employee_cache": _REFERENCES,
    "invalidate_vehicle_cache": _REFERENCES,
}


def __getattr__(name: str) -> Any:
    module = _DEFINED_IN.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
