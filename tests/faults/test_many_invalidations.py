"""A short run of the cache alone, as it is and with a protection taken out."""

from faults import many_invalidations


def test_a_short_run_breaks_no_promise() -> None:
    """Every invalidation is followed by reads in the other process."""
    outcome = many_invalidations.measure(300, processes=2, limit_s=20)

    assert outcome.kept, outcome
    assert outcome.invalidations >= 300
    assert outcome.reads > outcome.invalidations


def test_a_process_that_keeps_its_own_entries_is_found() -> None:
    """The run would notice a stale read."""
    outcome = many_invalidations.measure(300, processes=2, limit_s=20, without="own-l1-kept")

    assert outcome.violations["stale reads in the invalidating process"] > 0
