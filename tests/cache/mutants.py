"""The cache with one protection taken out, to see that the tests of that protection can fail."""

from collections.abc import Callable
from importlib import resources

from servease_appt.cache.l2.commands import LuaScript
from servease_appt.cache.l2.protocol import Announced
from servease_appt.cache.l2.single_server import SingleServerL2
from servease_appt.cache.messages import Invalidation
from tests.cache.testbed import Cache, monkeypatch


def _single(cache: Cache) -> SingleServerL2:
    assert isinstance(cache.l2, SingleServerL2)
    return cache.l2


def no_mutation(_cache: Cache) -> None:
    """The cache as it is."""


def without_l1_fence(cache: Cache) -> None:
    """L1 keeps whatever was read, also from before an invalidation; the server's own news are not heard."""
    monkeypatch(cache.l1._invalidated, "later_than", lambda *_: False)
    deaf_to_changes(cache)


def without_lease_check(cache: Cache) -> None:
    """`fill.lua` stores under no lease at all."""
    script = resources.files("servease_appt.cache.l2").joinpath("scripts", "fill.lua").read_text()
    check = "not stands or (stands ~= token and fence(stands) ~= fence(token))"
    assert check in script
    _single(cache)._fill = LuaScript(cache.l2.client, script.replace(check, "false").encode())


def with_any_lease(cache: Cache) -> None:
    """`fill.lua` stores as long as somebody has a lease."""
    script = resources.files("servease_appt.cache.l2").joinpath("scripts", "fill.lua").read_text()
    check = "fence(stands) ~= fence(token)"
    assert check in script
    _single(cache)._fill = LuaScript(cache.l2.client, script.replace(check, "false").encode())


def keeping_stale_copies(cache: Cache) -> None:
    """`invalidate.lua` leaves the stale copy."""
    invalidate = _single(cache)._invalidate

    def call(keys: list[str], args: list[str]) -> object:
        return invalidate(keys=[key for key in keys if ":__copy:" not in key], args=args)

    monkeypatch(cache.l2, "_invalidate", call)


def own_l1_first(cache: Cache) -> None:
    """`invalidate` drops its own L1, then what is in L2, and takes no notice of its own message."""
    drop, in_l2 = cache._process.invalidator.drop, cache.l2.invalidate

    def first_here(keys: list[str], source: str) -> Announced:
        drop(keys)
        return in_l2(keys, source)

    monkeypatch(cache.l2, "invalidate", first_here)
    monkeypatch(cache._process.invalidator, "drop", lambda *_: None)
    deaf_to_changes(cache)


def deaf_to_changes(cache: Cache) -> None:
    """Takes no notice of what the server says of changes by other hands."""
    monkeypatch(cache._process.handler, "on_changed", lambda *_: None)


def without_verified_puts(cache: Cache) -> None:
    """What is put after the news of a change is not compared with L2."""
    monkeypatch(cache.l1._suspected, "later_than", lambda *_: False)


def without_flush_at_confirmation(cache: Cache) -> None:
    """A new subscription leaves L1 as it is."""
    monkeypatch(cache._process.handler, "on_confirmed", lambda **_: None)


def without_gaps(cache: Cache) -> None:
    """A lost message is nothing to worry about."""
    monkeypatch(cache._process.handler, "on_gap", lambda: None)
    deaf_to_changes(cache)


def without_stale_fence(cache: Cache) -> None:
    """The stale copy stands in although its key was invalidated since."""
    monkeypatch(cache.l1, "invalidated_since", lambda *_: False)


def values_before_leases(cache: Cache) -> None:
    """`invalidate_matching` scans in the wrong order."""
    scan = _single(cache)._delete_matching
    put_off: list[str] = []

    def other_order(pattern: str, *, values: bool) -> None:
        if ":__lease:" in pattern:
            put_off.append(pattern)
            return
        scan(pattern, values=values)
        while put_off:
            scan(put_off.pop(), values=False)

    monkeypatch(cache.l2, "_delete_matching", other_order)


def messages_delete_in_l2(cache: Cache) -> None:
    """Whoever hears a message deletes in L2, too."""
    heard = cache._process.handler.on_message

    def too_eager(invalidation: Invalidation) -> None:
        heard(invalidation)
        cache._process.invalidator.carry_out(invalidation)

    monkeypatch(cache._process.handler, "on_message", too_eager)


def without_detaching(cache: Cache) -> None:
    """After an invalidation others may still join a load that began before it."""
    monkeypatch(cache._process.flights, "detach", lambda *_: None)


Mutation = Callable[[Cache], None]
