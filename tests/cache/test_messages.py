"""What an invalidation looks like on the wire: the forms that are read, and everything else, which is not."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servease_appt.cache.messages import (
    MAX_KEY_CHARS,
    MAX_KEYS,
    MAX_MESSAGE_BYTES,
    Invalidation,
    UnreadableMessage,
    coalesce,
    decode,
    own_message_parts,
    sequence_of,
)

PREFIX = "appointment_service"
KEY = "customer_bcee5755-2c9f-4c0a-8720-1592b75edf96"


def wire(**fields: object) -> bytes:
    """A JSON message."""
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("payload", "read"),
    [
        (KEY.encode(), Invalidation(keys=(KEY,))),
        (f"{PREFIX}:{KEY}".encode(), Invalidation(keys=(KEY,))),
        (f"  {KEY}\n".encode(), Invalidation(keys=(KEY,))),
        (wire(keys=[KEY, "vehicle_1"]), Invalidation(keys=(KEY, "vehicle_1"))),
        (wire(keys=[f"{PREFIX}:{KEY}"]), Invalidation(keys=(KEY,))),
        (wire(pattern="customer_*"), Invalidation(pattern="customer_*")),
        (wire(pattern=f"{PREFIX}:customer_*"), Invalidation(pattern="customer_*")),
        (b"\n  " + wire(keys=[KEY]) + b"\n", Invalidation(keys=(KEY,))),
        (b"x" * MAX_KEY_CHARS, Invalidation(keys=("x" * MAX_KEY_CHARS,))),
        (wire(keys=[KEY] * MAX_KEYS), Invalidation(keys=(KEY,) * MAX_KEYS)),
        (KEY.encode().ljust(MAX_MESSAGE_BYTES), Invalidation(keys=(KEY,))),
        (wire(keys=["", KEY, 5, None]), Invalidation(keys=(KEY,), unreadable=3)),
        (wire(keys=[KEY], note="unknown fields are for later versions"), Invalidation(keys=(KEY,))),
    ],
)
def test_what_anybody_may_publish(payload: bytes, read: Invalidation) -> None:
    """A plain key, keys and a pattern, with or without the prefix; having no sequence, they are requests."""
    assert decode(payload, PREFIX) == read


@pytest.mark.parametrize(
    ("payload", "read"),
    [
        (
            b'{"v":1,"source":"host:41:9f2c","seq":1763816400000042,"keys":["customer_1"]}',
            Invalidation(keys=("customer_1",), source="host:41:9f2c", sequence=1763816400000042),
        ),
        (
            b'{"v":1,"source":"host:41:9f2c","seq":7,"pattern":"customer_*"}',
            Invalidation(pattern="customer_*", source="host:41:9f2c", sequence=7),
        ),
    ],
)
def test_the_bytes_of_version_1_are_still_read(payload: bytes, read: Invalidation) -> None:
    """What workers of the first version have on the wire; they may run beside this one for a while."""
    assert decode(payload, PREFIX) == read


@pytest.mark.parametrize(
    "invalidation",
    [
        Invalidation(keys=('customer_ä"\\',), source='host "1":41:9f2c'),
        Invalidation(pattern="*", source="host:1:a"),
    ],
)
def test_own_messages_are_read_back(invalidation: Invalidation) -> None:
    """With a sequence between its parts, which only the server knows, a message is read as what was meant."""
    head, tail = own_message_parts(invalidation)
    read = decode(f"{head}42{tail}".encode(), PREFIX)
    assert read == replace(invalidation, sequence=42)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"x" * (MAX_MESSAGE_BYTES + 1), "longer than 1048576 bytes"),
        (b"\xff\xfe", "not UTF-8"),
        (b"{", "neither a key nor JSON"),
        (wire(v=2, keys=[KEY]), "wire version 2"),
        (wire(seq=True, keys=[KEY]), "seq is not a whole number"),
        (wire(source=5, keys=[KEY]), "source is not a string"),
        (b"{}", 'needs "keys", a list of 1 to 10000, or "pattern"'),
        (b"", "a key needs 1 to 512 printable characters"),
    ],
)
def test_why_a_message_can_t_be_read(payload: bytes, reason: str) -> None:
    """The monitor shows the reason to whoever looks for the sender."""
    with pytest.raises(UnreadableMessage) as refused:
        decode(payload, PREFIX)
    assert str(refused.value) == reason


HOSTILE = [
    b"",
    b"   ",
    b"\xff\xfe",
    b"a\x00b",
    b"two\nlines",
    "a\u202eb".encode(),
    b"x" * (MAX_KEY_CHARS + 1),
    b"x" * (MAX_MESSAGE_BYTES + 1),
    b"{",
    b"{}",
    b'{"keys": []}',
    b'{"keys": "customer_1"}',
    b'{"keys": [1]}',
    b'{"keys": [""]}',
    b'{"keys": [null]}',
    b'{"keys": ["\\ud800"]}',
    b'{"keys": ["a"], "pattern": "*"}',
    b'{"pattern": ""}',
    b'{"pattern": ["*"]}',
    b'{"keys": ["a"], "v": 2}',
    b'{"keys": ["a"], "v": "1"}',
    b'{"keys": ["a"], "seq": "1"}',
    b'{"keys": ["a"], "seq": 1.5}',
    b'{"keys": ["a"], "seq": true}',
    b'{"keys": ["a"], "source": 1}',
    b'{"keys": ["a"], "seq": ' + b"9" * 5000 + b"}",
    b'{"a":' * 100_000,
    wire(keys=["a"] * (MAX_KEYS + 1)),
]


@pytest.mark.parametrize("payload", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_message_says_so(payload: bytes) -> None:
    """Bytes of no known form raise the one error that is counted and passed over."""
    with pytest.raises(UnreadableMessage):
        decode(payload, PREFIX)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_do_harm(payload: bytes) -> None:
    """Any bytes at all are an invalidation of printable keys, or unreadable; nothing else is ever raised."""
    try:
        read = decode(payload, PREFIX)
    except UnreadableMessage:
        return
    assert all(key.isprintable() for key in read.keys)


@given(st.dictionaries(st.sampled_from(["keys", "pattern", "seq", "source", "v"]), json_values))
def test_no_object_does_harm(message: dict[str, object]) -> None:
    """The same for JSON objects with the right names and any values."""
    try:
        read = decode(json.dumps(message).encode(), PREFIX)
    except UnreadableMessage:
        return
    assert (read.pattern is None) != (not read.keys)


@pytest.mark.parametrize(
    ("stored", "number"),
    [(b"42", 42), (None, None), (b"", None), (b"abc", None), (b"9" * 5000, None), ([], None)],
)
def test_what_lies_under_the_sequence(stored: object, number: int | None) -> None:
    """A number, or nothing: also when somebody has written something else there."""
    assert sequence_of(stored) == number


@given(key=st.text(max_size=MAX_KEY_CHARS + 1), source=st.text(max_size=20), sequence=st.integers())
def test_the_short_way_to_read_a_message_reads_the_same(key: str, source: str, sequence: int) -> None:
    """A space before the message leads through the JSON decoder."""
    head, tail = own_message_parts(Invalidation(keys=(key,), source=source))
    unescaped = f'{{"v":1,"source":"{source}","seq":{sequence},"keys":["{key}"]}}'
    for text in (f"{head}{sequence}{tail}", unescaped):
        payload = text.encode(errors="replace")
        assert _read(payload) == _read(b" " + payload)


def _read(payload: bytes) -> Invalidation | None:
    try:
        return decode(payload, PREFIX)
    except UnreadableMessage:
        return None


def own(source: str, sequence: int, *keys: str) -> Invalidation:
    """A message of the cache's own."""
    return Invalidation(keys, source=source, sequence=sequence)


def test_messages_that_were_received_together() -> None:
    """One for each source; one for the same keys of several sources; each key as often as it was named."""
    assert coalesce([own("a", 1, "x"), own("a", 2, "y", "z"), own("a", 3, "x")]) == [
        own("a", 3, "x", "x", "y", "z")
    ]
    assert coalesce([own("a", 1, "x"), own("b", 2, "x")]) == [own("a, b", 2, "x", "x")]
    assert coalesce([own("a", 1, "x"), own("b", 2, "y")]) == [own("a", 2, "x"), own("b", 2, "y")]
    (many,) = coalesce([own(source, 1, "x") for source in "aabcde"])
    assert many == own("a, b, c and 2 more", 1, *"xxxxxx")


@pytest.mark.parametrize(
    ("message", "can"),
    [
        (own("a", 1, "x"), True),
        (Invalidation(("x",)), False),
        (Invalidation(("x",), sequence=1), False),
        (Invalidation(("x",), source="a"), False),
        (Invalidation(("x",), source="a", sequence=1, unreadable=1), False),
        (Invalidation(pattern="*", source="a", sequence=1), False),
    ],
)
def test_only_the_caches_own_messages_with_keys_are_coalesced(message: Invalidation, can: bool) -> None:
    """The order of requests, patterns and their messages has a meaning."""
    assert message.can_coalesce is can
