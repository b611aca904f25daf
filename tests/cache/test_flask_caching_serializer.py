"""Values come back equal and of the same type at every depth, or are refused."""

import dataclasses
import enum
import math
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from http import HTTPStatus
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from flask import Flask, Response
from flask_caching import CachedResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from werkzeug.exceptions import BadRequestKeyError, HTTPException, MethodNotAllowed, NotFound, TooManyRequests

from servease_appt.cache.flask_caching.serializer import ExactSerializer
from servease_appt.cache.flask_caching.web_types import web_types


class AppResponse(Response):
    """An application's own response class."""


SERIALIZER = ExactSerializer(web_types(AppResponse))
PARIS = ZoneInfo("Europe/Paris")
Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - what hosts use


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1


class Level(enum.IntEnum):
    """One whose members are integers."""

    LOW = 1


class Name(str):
    """A text of a type of its own."""


class Count(int):
    """A number of a type of its own."""


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: int


class Summer(tzinfo):
    """A time zone that nothing but this class knows."""

    def utcoffset(self, _when: datetime | None) -> timedelta:
        """Two hours."""
        return timedelta(hours=2)

    def dst(self, _when: datetime | None) -> timedelta:
        """One of them."""
        return timedelta(hours=1)

    def tzname(self, _when: datetime | None) -> str:
        """The name of the zone."""
        return "summer"


def label(value: object) -> str:
    """Return a short name of a parameter, the same in every process.

    The longest integers have no decimal digits to show, and a set has no order.
    """
    if isinstance(value, int):
        return hex(value)[:40]
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__} of {len(value)}"
    return repr(value).partition(" at 0x")[0][:40]


def same(left: object, right: object) -> bool:
    """Whether two values are equal and of the same types at every depth, dicts in the same order."""
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return all(map(same, _flat(left), _flat(right)))
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return all(map(same, left, right))
    if isinstance(left, (set, frozenset)) and isinstance(right, (set, frozenset)):
        return all(any(same(one, other) for other in right) for one in left)
    return isinstance(left, int) or repr(left) == repr(
        right
    )  # tells -0.0 from 0.0, Decimal("1.0") from Decimal("1"), a fold, a zone


def _flat(mapping: dict[Any, Any]) -> Iterator[Any]:
    for pair in mapping.items():
        yield from pair


def again(value: object) -> Any:
    """The value as the next worker reads it."""
    return SERIALIZER.loads(SERIALIZER.dumps(value))


@pytest.mark.parametrize(
    "value",
    [
        "text", "", "ünï 🚗", "\ud800", "\ud83d\ude97", '{"$set":[1]}', "line\nnull\0",
        0, True, None, -5, 2**80, -(10**6000), 3.5, -0.0, 1e300, math.inf, -math.inf,
        [], [1, "a", None], {}, {"b": 1, "a": 2}, (), (1, (2,)), [(1, [2])], b"", b"\x00\xff",
        {1: "a", "1": "b"}, {None: 1}, {(1, 2): 3}, {date(2026, 1, 1): [1]}, {1.5: 1},
        {"$set": [1]}, {"$nothing": 1}, {"$dict": [[1, 2]]}, {"$set": 1, "b": 2}, {"": {}},
        set(), {1, 2}, {"a", 1, (2,)}, frozenset([frozenset([1]), "x"]),
        Decimal("1.50"), Decimal("-0"), Decimal("1E+400"), Decimal("-Infinity"),
        date(1, 1, 1), datetime(2026, 5, 4, 3, 2, 1), datetime(2026, 5, 4, 3, 2, 1, 5, tzinfo=UTC),
        datetime(2026, 5, 4, 3, 2, 1, tzinfo=timezone(timedelta(hours=2, seconds=1))),
        datetime(2026, 5, 4, tzinfo=timezone(timedelta(hours=1), "CET")),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=PARIS), datetime(2026, 10, 25, 2, 30, tzinfo=PARIS),
        time(3, 2), time(3, 2, 1, 9, tzinfo=UTC), timedelta(days=-1, microseconds=7), timedelta.max,
        UUID("bcee5755-2c9f-4c0a-8720-1592b75edf96"), Markup("<b>"), HTTPStatus.CREATED,
        {"a": (1, {"b": (Decimal(1), {datetime(2026, 1, 1): {b"x"}})})},
    ],
    ids=label,
)  # fmt: skip
def test_supported_values_come_back_as_they_were(value: object) -> None:
    """Equal, of the same type, in the same order."""
    assert same(again(value), value)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (Pair(1, 2), "store tuple(value)"), (Point(1), "dataclasses.asdict"), (Colour.RED, ".value"),
        (Level.LOW, ".value"), (Name("a"), "store str(value)"), (Count(1), "store int(value)"),
        (OrderedDict(a=1), "store dict(value)"), (defaultdict(list), "store dict(value)"),
        (math.nan, "store None"), (Decimal("nan"), "store None"), (Decimal("sNaN"), "store None"),
        (datetime(2026, 1, 1, tzinfo=Summer()), "zoneinfo"), (time(1, tzinfo=Summer()), "zoneinfo"),
        (datetime(2026, 1, 1, tzinfo=ZoneInfo.no_cache("Europe/Paris")), "zoneinfo"),
        (object(), "plain types"), (len, "plain types"), (iter([1]), "list(value)"), (1j, "plain types"),
        (bytearray(b"a"), "plain types"), (Fraction(1, 2), "plain types"), (range(3), "plain types"),
        (Response(iter(["a"])), "streamed"),
    ],
    ids=label,
)  # fmt: skip
def test_other_values_are_refused_with_a_remedy(value: object, remedy: str) -> None:
    """At any depth, as a dict's key, too."""
    holders: list[object] = [value, [value], {"a": (value,)}]
    if type(value).__hash__ is not None:
        holders.append({value: 1} if not isinstance(value, Decimal) or not value.is_snan() else [value])
    for holder in holders:
        with pytest.raises(TypeError) as refusal:
            SERIALIZER.dumps(holder)
        assert remedy in str(refusal.value)


def test_what_contains_itself_is_refused() -> None:
    """Rather than ending in a RecursionError."""
    endless: list[object] = []
    endless.append(endless)
    keyed: dict[object, object] = {1: 2}
    keyed[3] = (keyed,)

    for value in (endless, keyed):
        with pytest.raises(TypeError, match="contains itself"):
            SERIALIZER.dumps(value)


def test_equal_values_give_equal_bytes() -> None:
    """A set has another order in each process; the bytes have not."""
    assert SERIALIZER.dumps({"b", "a", "c"}) == b'{"$set":["a","b","c"]}'


def test_plain_values_are_plain_json() -> None:
    """What `redis-cli GET` shows can be read."""
    assert SERIALIZER.dumps({"name": "Ölfilter", "price": 12.5, "n": [1, None]}) == (
        '{"name":"Ölfilter","price":12.5,"n":[1,null]}'.encode()
    )


@pytest.mark.parametrize(
    "payload", [b"", b"\x80\x04.", b"{", b'{"$no":1}', b'{"$dict":[1]}', b'{"$date":"x"}', b"[NaN"]
)
def test_bytes_of_another_form_are_an_error(payload: bytes) -> None:
    """Never a value: whoever can write to Redis can't choose more than data."""
    with pytest.raises((ValueError, TypeError, KeyError)):
        SERIALIZER.loads(payload)


def with_body(response: Response) -> tuple[type, str, list[tuple[str, str]], bytes]:
    """What counts of a response."""
    return type(response), response.status, list(response.headers.items()), response.get_data()


def responses() -> list[Response]:
    """Responses of all kinds."""
    cookies = Response("x", 201, {"X-Thing": "1"})
    cookies.set_cookie("a", "1")
    cookies.set_cookie("b", "2")
    bare = Response(b"\x00", "299 Of My Own")
    bare.headers.clear()
    return [cookies, bare, AppResponse("é", mimetype="application/json"), CachedResponse(Response("x"), 5)]


@pytest.mark.parametrize("response", responses(), ids=lambda response: type(response).__name__)
def test_responses_come_back_with_status_headers_and_body(response: Response) -> None:
    """Repeated headers included, and of the same class."""
    restored = again(response)

    assert with_body(restored) == with_body(response)
    assert getattr(restored, "timeout", None) == getattr(response, "timeout", None)


@pytest.mark.parametrize(
    "error",
    [
        NotFound(), NotFound("no such thing"), MethodNotAllowed(["GET", "PUT"]), TooManyRequests(retry_after=5),
        TooManyRequests(retry_after=datetime(2026, 1, 1, tzinfo=UTC)), BadRequestKeyError("name"),
        HTTPException(response=Response("gone", 410, {"X-Thing": "1"})),
    ],
    ids=repr,
)  # fmt: skip
def test_aborts_come_back_with_the_same_answer(error: HTTPException) -> None:
    """Flask-Caching caches the exception of `abort(404)` and raises it again."""
    restored = again(error)

    assert (type(restored), str(restored), repr(restored.args)) == (type(error), str(error), repr(error.args))
    environ = Flask("host").test_request_context().request.environ
    answers = [one.get_response(environ) for one in (restored, error)]
    assert with_body(answers[0]) == with_body(answers[1])  # type: ignore[arg-type]


def test_an_abort_of_a_hosts_own_class_is_refused() -> None:
    """It could carry anything."""

    class Teapot(HTTPException):
        code = 418

    with pytest.raises(TypeError, match="Teapot"):
        SERIALIZER.dumps(Teapot())


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(0, 99).map((1 << 15_000).__add__), st.floats(),
    st.binary(), st.text(st.characters()), st.text(st.characters(categories=["Cs", "Ll"])),
    st.decimals(allow_nan=False), st.just(Decimal("nan")), st.uuids(), st.dates(), st.times(),
    st.timedeltas(), st.datetimes(), st.datetimes(timezones=st.timezones()),
    st.datetimes(timezones=st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)),
    st.sampled_from([Level.LOW, Colour.RED, Name("a"), Count(3), Markup("<i>"), "$set", "$dict", Pair(1, 2)]),
)  # fmt: skip
_HASHABLE = st.recursive(
    _SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5
)
_VALUES = st.recursive(
    _HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(_HASHABLE, inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$set", "$dict", "$int"]), inner, max_size=1)
        | st.sets(_HASHABLE, max_size=3)
    ),
    max_leaves=12,
)


@given(_VALUES)
@settings(max_examples=300, deadline=None)
def test_any_value_comes_back_the_same_or_is_refused(value: object) -> None:
    """The property that all of the above are examples of."""
    try:
        payload = SERIALIZER.dumps(value)
    except TypeError:
        return
    assert same(SERIALIZER.loads(payload), value)
    assert SERIALIZER.dumps(SERIALIZER.loads(payload)) == payload
