"""Where a request ends, whatever the pieces are that it arrives in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servease_appt.serving.framing import MAX_BODY_BYTES, MAX_HEAD_BYTES, Progress, RequestFrame

GET = b"GET /api/v1/health/?x=1 HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"
)
TRAILER = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n"


@given(
    request=st.sampled_from([GET, POST, CHUNKED, TRAILER]),
    behind=st.binary(max_size=30),
    cuts=st.lists(st.integers(0, 120), max_size=8),
)
def test_the_end_does_not_depend_on_the_pieces(request: bytes, behind: bytes, cuts: list[int]) -> None:
    """A request is incomplete until its last byte is there, and what follows is kept for the next one."""
    frame = RequestFrame()
    places = sorted({0, len(request) - 1, *(cut for cut in cuts if cut < len(request))})
    for start, end in pairwise(places):
        assert frame.feed(request[start:end]) is Progress.INCOMPLETE
    assert frame.feed(request[-1:] + behind) is Progress.COMPLETE
    assert frame.take() == (request, behind)


def test_the_path_has_no_query() -> None:
    """The path tells probes from other requests."""
    frame = RequestFrame()
    frame.feed(GET)
    assert frame.path == b"/api/v1/health/"


@pytest.mark.parametrize(
    "body",
    [b"Z\r\n{}\r\n", b"\r\n{}\r\n", b"0x2\r\n{}", b"-2\r\n{}", b"2;a\n{}", b"2\r\n{}\r\n0\r\nnocolon\n"],
)
def test_malformed_chunks_are_handed_over_at_once(body: bytes) -> None:
    """Nobody waits for the end of what has none: gunicorn's parser refuses it."""
    frame = RequestFrame()
    head = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert frame.feed(head + body) is Progress.COMPLETE


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 2\r\nContent-Length: 3",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked",
        b"Content-Length: -1",
        b"Content-Length: 1e3",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: chunked, chunked",
    ],
)
def test_an_ambiguous_length_is_not_waited_for(framing: bytes) -> None:
    """The headers alone are handed over."""
    frame = RequestFrame()
    assert frame.feed(b"POST /a HTTP/1.1\r\n" + framing + b"\r\n\r\n") is Progress.COMPLETE


def test_limits() -> None:
    """Headers without an end are refused, and a body over the limit is not waited for."""
    assert RequestFrame().feed(b"G" * (MAX_HEAD_BYTES + 1)) is Progress.HEAD_TOO_LARGE

    announced = RequestFrame()
    length = MAX_BODY_BYTES + 1
    assert announced.feed(b"POST /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % length) is Progress.COMPLETE
    assert announced.body_is_cut

    chunked = RequestFrame()
    head = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (2 * MAX_BODY_BYTES)
    assert chunked.feed(head + b"x" * MAX_BODY_BYTES) is Progress.INCOMPLETE
    assert chunked.feed(b"x") is Progress.COMPLETE
    assert chunked.body_is_cut


def test_an_empty_line_is_no_request() -> None:
    """Bare line feeds are handed over for gunicorn to refuse."""
    assert RequestFrame().feed(b"GET / HTTP/1.0\n\n") is Progress.COMPLETE


def test_a_client_that_waits_is_noticed() -> None:
    """`Expect: 100-continue` comes before its body."""
    frame = RequestFrame()
    frame.feed(b"POST /a HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert frame.wants_continue
