"""The verdict over one read against the invalidations that processes have shared."""

from multiprocessing import get_context

import pytest

from faults.board import KEPT, LAGS_MS, Board, Tally

CONTEXT = get_context("spawn")
MS = 1_000_000


@pytest.fixture
def board() -> Board:
    """Two keys with a writer each."""
    return Board(CONTEXT, keys=2, writers=2)


def announce(board: Board, key: int, monkeypatch: pytest.MonkeyPatch, at_ms: int) -> None:
    """A newer version, whose invalidation returned at that moment."""
    monkeypatch.setattr("time.monotonic_ns", lambda: at_ms * MS)
    board.bump(key)
    board.acknowledge([key])


def test_a_read_is_stale_since_the_first_newer_version(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not since the newest one, and only as far as the read knew of the acknowledgement before its call."""
    for at_ms in (10, 20, 30):
        announce(board, 0, monkeypatch, at_ms)

    assert board.lag_ns(0, 3, 3, 40 * MS) == 0
    assert board.lag_ns(0, 4, 3, 40 * MS) == 0
    assert board.lag_ns(0, 2, 3, 40 * MS) == 10 * MS
    assert board.lag_ns(0, 0, 3, 40 * MS) == 30 * MS
    assert board.lag_ns(0, 2, 2, 40 * MS) == 0
    assert board.lag_ns(1, 0, 0, 40 * MS) == 0


def test_a_very_old_version_is_stale_since_the_oldest_moment_that_is_kept(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it never looks fresh."""
    for at_ms in range(1, 2 * KEPT + 1):
        announce(board, 0, monkeypatch, at_ms)

    assert board.lag_ns(0, 1, 2 * KEPT, 200 * MS) == (200 - KEPT - 2) * MS


def test_each_announcement_is_followed_once(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the other writer, which is told how far the slowest is behind."""
    announce(board, 0, monkeypatch, 1)
    announce(board, 0, monkeypatch, 2)

    assert board.behind(0) == 2
    assert board.news(0, 10) == []
    assert board.news(1, 1) == [0]
    assert board.news(1, 10) == [0]
    assert board.news(1, 10) == []
    assert board.behind(0) == 0
    assert board.invalidations() == 2


def test_lags_are_counted_by_their_class_and_against_the_bound() -> None:
    """The bound itself is kept, more is late."""
    tally = Tally(CONTEXT)

    for lag_ns in (MS, 2000 * MS, 2000 * MS + 1):
        tally.note_lag(lag_ns, 2000 * MS)

    counts = tally.as_dict()
    assert (counts["stale"], counts["late"], counts["longest_ns"]) == (3, 1, 2000 * MS + 1)
    assert [tally.lags[LAGS_MS.index(top)] for top in (1, 2000, float("inf"))] == [1, 1, 1]
