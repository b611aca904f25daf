"""Flask-Caching's Cache, with single-flight decorators: one run of a function for all workers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from types import FrameType
from typing import Any, ParamSpec, TypeVar, cast

from flask import has_request_context, request
from flask_caching import Cache
from flask_caching.utils import wants_args
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from servease_appt.cache.flask_caching.backend import TwoTierBackend
from servease_appt.cache.flask_caching.calls import decorated_call, is_version, timeout_of

log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

_missed: ContextVar[tuple[FrameType, str, Any] | None] = ContextVar("missed", default=None)
"""The decorated call that computes a value, its key, and the value that it replaces; None: there is none."""
_not_to_store: ContextVar[object] = ContextVar("not_to_store", default=None)


class TwoTierFlaskCache(Cache):
    """`flask_caching.Cache` for TwoTierBackend, with single-flight `@cached` and `@memoize`.

    * While one call of a key runs the function, calls in all threads and workers wait for its value, at most
      CACHE_RUN_WAIT seconds (10). Then they run the function themselves. If the run fails, the next call runs it.
    * If the function raises (other than by `abort`) and CACHE_STALE_TIMEOUT is more than 0, the last known value
      is returned up to that many seconds past its expiry, and the error is logged. A deletion drops this value.
    * In the last CACHE_REFRESH_AHEAD seconds (0: never) before a value expires, one call in all workers runs the
      function, while the others are given the value. If it fails, it is given the value, too.
    * Unless `shared=True`, `@cached` caches views only for GET and HEAD, and neither answers to requests with
      `Authorization` nor responses with `Set-Cookie`.

    Example:
        app.config["CACHE_TYPE"] = "servease_appt.cache.flask_caching.TwoTierBackend"
        cache = TwoTierFlaskCache(app)
    """

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Return a value as `Cache.get` does, and note the miss of a decorated call."""
        found = super().get(*args, **kwargs)
        backend = self._backend()
        if found is not None and (backend is None or not backend.refreshes):
            return found
        call, key = decorated_call(), str(args[0] if args else kwargs["key"])
        if found is None or self._refreshes(backend, key, call):
            _missed.set(None if call is None else (call, key, found))
            return None
        return found

    @staticmethod
    def _refreshes(backend: TwoTierBackend | None, key: str, call: FrameType | None) -> bool:
        """Return True if this call has to compute a value anew that it has found."""
        if backend is None or call is None or is_version(key):
            return False
        return backend.begin_refresh(key, timeout_of(call))

    def set(self, *args: Any, **kwargs: Any) -> Any:
        """Store a value as `Cache.set` does. If it was not stored, waiting calls stop waiting for it."""
        stored = False
        try:
            stored = bool(super().set(*args, **kwargs))
        finally:
            backend = self._backend()
            if not stored and backend is not None:
                backend.give_up_run(args[0] if args else kwargs["key"])
        return stored

    def cached(  # type: ignore[override] # all but the first two by name
        self,
        timeout: int | timedelta | None = None,
        key_prefix: str | Callable[[], str] = "view/%s",
        *,
        shared: bool = False,
        unless: Callable[..., Any] | None = None,
        response_filter: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Callable[[Callable[P, R]], Any]:
        """Decorate a view or a function. See `Cache.cached`.

        Args:
            timeout: seconds; None: CACHE_DEFAULT_TIMEOUT.
            key_prefix: see `Cache.cached`.
            shared: True to cache answers for all callers: also answers to requests with `Authorization` or with
                any method, and answers with `Set-Cookie`.
            unless: see `Cache.cached`.
            response_filter: see `Cache.cached`.
            options: all other options of `Cache.cached`.
        """
        if not shared:
            unless, response_filter = _unless_private(unless), _keep_unless_cookies(response_filter)
        decorate = super().cached(
            timeout, key_prefix, unless=unless, response_filter=self._kept(response_filter), **options
        )
        return lambda function: decorate(self._run_once(function))

    def memoize(  # type: ignore[override] # all but the first by name
        self,
        timeout: int | timedelta | None = None,
        *,
        response_filter: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Callable[[Callable[P, R]], Any]:
        """Decorate a function. See `Cache.memoize`; all arguments but the first are given by name."""
        decorate = super().memoize(timeout, response_filter=self._kept(response_filter), **options)
        return lambda function: decorate(self._run_once(function))

    def _backend(self) -> TwoTierBackend | None:
        backend: object = self.cache
        return backend if isinstance(backend, TwoTierBackend) else None

    def _run_once(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def once(*args: P.args, **kwargs: P.kwargs) -> R:
            run = cast("Callable[P, R]", self.app.ensure_sync(function))
            backend, key = self._backend(), _missed_key()
            if backend is None or key is None:
                return run(*args, **kwargs)
            there, value = backend.wait_for_run(key)
            if there:
                _not_to_store.set(value)
                return cast("R", value)
            try:
                return run(*args, **kwargs)
            except HTTPException:
                raise  # an HTTP exception is a result, which Flask-Caching stores
            except Exception:
                there, value = backend.give_up_run(key)
                if not there:
                    value = _value_before()
                    if value is None:
                        raise
                log.warning(
                    "%s failed: its last known value is returned", function.__qualname__, exc_info=True
                )
                _not_to_store.set(value)
                return cast("R", value)
            except BaseException:
                backend.give_up_run(key)
                raise

        return once

    def _kept(self, keep: Callable[[Any], Any] | None) -> Callable[[Any], bool]:
        """Return a filter that also excludes values that this call has not computed, and releases their fences."""

        def filtered(value: Any) -> bool:
            not_to_store = _not_to_store.get()
            _not_to_store.set(None)
            if value is not None and value is not_to_store:
                return False
            if keep is None or keep(value):
                return True
            key, backend = _missed_key(), self._backend()
            if key is not None and backend is not None:
                backend.give_up_run(key)
            return False

        return filtered


def _missed_key() -> str | None:
    """Return the key that the current decorated call has missed; None if there is none."""
    missed = _missed.get()
    return missed[1] if missed is not None and missed[0] is decorated_call() else None


def _value_before() -> Any:
    """Return the value that the current decorated call was to replace; None if there is none."""
    missed = _missed.get()
    return missed[2] if missed is not None and missed[0] is decorated_call() else None


def _unless_private(unless: Callable[..., Any] | None) -> Callable[..., bool]:
    def private(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        if has_request_context() and (
            request.method not in ("GET", "HEAD") or "Authorization" in request.headers
        ):
            return True
        if unless is None:
            return False
        return (unless(function, *args, **kwargs) if wants_args(unless) else unless()) is True

    return private


def _keep_unless_cookies(keep: Callable[[Any], Any] | None) -> Callable[[Any], bool]:
    def kept(value: Any) -> bool:
        if has_request_context() and "Set-Cookie" in _headers_of(value):
            return False
        return keep is None or bool(keep(value))

    return kept


def _headers_of(value: Any) -> set[str]:
    """Return the names of the headers in a view's result."""
    if isinstance(value, Response):
        return {name.title() for name, _ in value.headers}
    if isinstance(value, tuple):
        return set().union(*map(_headers_of, value[:1]), *(_names(part) for part in value[1:]))
    return set()


def _names(headers: Any) -> set[str]:
    if isinstance(headers, dict):
        return {str(name).title() for name in headers}
    if isinstance(headers, list):
        return {str(name).title() for name, _ in headers}
    return set()
