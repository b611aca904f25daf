"""How long reads of the tiers take: which are recorded, and for which entities."""

import pytest

from servease_appt.cache import Lookup, Source, Tier
from servease_appt.references.entities import Reference
from servease_appt.references.read_times import EVERY_S, ReadTimes

KEYS = ["customer_1", "customer_2", "employee_1"]


class Recorded:
    """An observer that keeps what it is given."""

    def __init__(self) -> None:
        self.reads: list[tuple[Tier, str, float]] = []

    def tier_read(self, tier: Tier, entity: str, seconds: float) -> None:
        """Keep it."""
        self.reads.append((tier, entity, round(seconds, 6)))


def lookup(cache_s: float = 0.0, **sources: Source) -> Lookup[Reference]:
    """A lookup whose other keys came from L1."""
    return Lookup(dict.fromkeys(KEYS), dict(sources), cache_s=cache_s)


def test_a_lookup_in_l1_counts_once_for_each_of_its_entities() -> None:
    """Its whole duration; and no lookup without keys."""
    recorded = Recorded()
    times = ReadTimes(recorded)
    times.note(10.0, 10.00002, [], Lookup({}))
    times.note(10.0, 10.00002, KEYS, lookup())

    assert sorted(recorded.reads) == [(Tier.L1, "customer", 2e-05), (Tier.L1, "employee", 2e-05)]


def test_a_lookup_that_needs_l2_counts_for_what_l2_had() -> None:
    """The time spent on the tiers, not that of the calls to services; nothing where L2 had no value."""
    recorded = Recorded()
    times = ReadTimes(recorded)
    times.note(10.0, 10.2, KEYS, lookup(0.003, customer_1=Source.UPSTREAM, customer_2=Source.STALE))
    times.note(10.0, 10.2, KEYS, lookup(0.003, customer_1=Source.L2, employee_1=Source.UPSTREAM))

    assert recorded.reads == [(Tier.L2, "customer", 0.003)]


@pytest.mark.parametrize("source", [None, Source.L2])
def test_each_tier_is_sampled_by_time(source: Source | None) -> None:
    """Of a burst the first lookup is recorded, and the next after a pause; the other tier has its own pauses."""
    recorded = Recorded()
    times = ReadTimes(recorded)
    found = lookup(0.002, **({} if source is None else {"customer_1": source}))
    other = lookup(0.002, **({"customer_1": Source.L2} if source is None else {}))
    for ended_s in (10.0, 10.0 + EVERY_S / 2, 10.0 + EVERY_S * 1.01):
        times.note(ended_s - 0.002, ended_s, KEYS[:1], found)
    times.note(10.0 - 0.002, 10.0, KEYS[:1], other)

    tiers = [tier for tier, _, _ in recorded.reads]
    assert tiers == ([Tier.L1, Tier.L1, Tier.L2] if source is None else [Tier.L2, Tier.L2, Tier.L1])
