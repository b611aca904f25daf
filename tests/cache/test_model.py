"""Every interleaving of the protocol ends well, and each protection is needed for that."""

import pytest

from tests.cache.model import Guard, Scenario, explore

SCENARIOS = {
    "warm": Scenario("R0 R1 W0"),
    "warm, no tracking": Scenario("R0 R1 W0", tracking=False),
    "in L2 only, no tracking": Scenario("R0 R1 W0", l2_only=True, tracking=False),
    "in L2 only, own readers": Scenario("R0 R0 W0", l2_only=True, tracking=False),
    "cold": Scenario("R0 R1 W0", warm=False),
    "cold, a reader joins": Scenario("R0 R0 W0", warm=False),
    "two invalidations": Scenario("R0 W0 W1", warm=False, tracking=False),
    "messages swap places": Scenario("R0 W0 W1", tracking=False, reordering=True),
    "messages are lost": Scenario("R0 W0 W1", tracking=False, losses=1),
    "a lease expires": Scenario("R0 R1 W0", warm=False, tracking=False, expiries=1),
    "a lease is taken over": Scenario("R0 R1 W0", warm=False, tracking=False, takeovers=1),
    "a lease is taken over and expires": Scenario(
        "R0 R1 W0", warm=False, tracking=False, expiries=1, takeovers=1
    ),
    "a lease is taken over twice": Scenario("R0 R1 R1", warm=False, tracking=False, takeovers=2),
    "a set": Scenario("R0 R1 S0"),
    "a set, no tracking": Scenario("R0 R1 S0", tracking=False),
    "a set, cold": Scenario("R0 R1 S0", warm=False, tracking=False),
    "a set, in L2 only, own readers": Scenario("R0 R0 S0", l2_only=True, tracking=False),
    "a set whose message is lost": Scenario("R0 R1 S0", tracking=False, losses=1),
    "a refresh": Scenario("R0 A1 W0", tracking=False),
    "a refresh, in L2 only": Scenario("R1 A1 W0", l2_only=True, tracking=False),
    "two refreshes": Scenario("A0 A1 W0", tracking=False),
    "a refresh and a set": Scenario("R1 A0 S1", tracking=False),
    "DEL by hand": Scenario("R0 R1 D0"),
    "DEL by hand, in L2 only": Scenario("R0 R1 D0", l2_only=True),
    "FLUSHDB by hand, warm": Scenario("R0 R1 F0"),
    "FLUSHDB by hand, cold": Scenario("R0 R1 F0", warm=False),
    "by pattern, warm": Scenario("R0 R1 P0"),
    "by pattern, cold": Scenario("R0 R1 P0", warm=False, tracking=False),
    "a plain PUBLISH": Scenario("R0 R1 U0", tracking=False),
    "a plain PUBLISH, cold": Scenario("R0 R1 U0", warm=False, tracking=False),
    "a plain PUBLISH that fails": Scenario("R0 U0", tracking=False, failures=2),
    "two plain PUBLISHes": Scenario("R0 U0 U1", tracking=False),
    "the channel is lost": Scenario("R1 W0 C1", tracking=False),
    "a failover that loses an invalidation": Scenario("W0 X0 O1", tracking=False),
    "a failover after a heartbeat": Scenario("W0 B0 X0 O1", tracking=False),
    "a failover, heard by the other worker": Scenario("W0 X1 O1 B1", tracking=False),
    "the channel is lost, in L2 only": Scenario("R1 R1 W0 C1", l2_only=True, tracking=False),
}

NEEDED_IN = {
    Guard.L1_EPOCH: "in L2 only, no tracking",
    Guard.LEASE_IN_FILL: "cold",
    Guard.OWN_LEASE: "cold",
    Guard.TAKEOVER_KEEPS_FENCE: "a lease is taken over",
    Guard.INVALIDATION_TAKES_LEASE: "cold",
    Guard.WRITE_TAKES_LEASE: "a set, cold",
    Guard.WRITE_ANNOUNCES: "a set, no tracking",
    Guard.FLUSH_TAKES_LEASE: "FLUSHDB by hand, cold",
    Guard.OWN_L1_LAST: "in L2 only, own readers",
    Guard.ONE_SCRIPT: "in L2 only, no tracking",
    Guard.SEQUENCE: "messages are lost",
    Guard.HISTORY: "a failover that loses an invalidation",
    Guard.ACKNOWLEDGED_IS_NEWER: "a failover after a heartbeat",
    Guard.FLUSH_AFTER_CONFIRMATION: "the channel is lost, in L2 only",
    Guard.VERIFY_HELD: "DEL by hand",
    Guard.VERIFY_PUT: "DEL by hand, in L2 only",
    Guard.LEASES_FIRST: "by pattern, cold",
    Guard.DETACH: "cold, a reader joins",
    Guard.COVERED_FROM_BEHIND: "two plain PUBLISHes",
    Guard.DONE_AS_SEEN: "two plain PUBLISHes",
    Guard.RETRY: "a plain PUBLISH that fails",
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_schedule_ends_stale(name: str) -> None:
    """With all protections in force no order of steps leaves or serves an old value."""
    way, states = explore(SCENARIOS[name])
    assert way is None, "\n".join(way or [])
    assert states > 50, "the scenario does next to nothing"


@pytest.mark.parametrize("guard", Guard)
def test_every_protection_is_needed(guard: Guard) -> None:
    """Without it some schedule ends stale, so that the check above says something."""
    way, _ = explore(SCENARIOS[NEEDED_IN[guard]], without=[guard])
    assert way is not None


def test_a_delete_by_hand_stops_no_load() -> None:
    """The bound that is stated: DEL takes the value that is there; a load under way may store its own."""
    way, _ = explore(Scenario("R1 D0", warm=False))
    assert way is not None
    assert way[-1].startswith("worker")


def test_a_set_is_unconditional() -> None:
    """The bound that is stated: a value that was computed before an invalidation and is set after it stays."""
    way, _ = explore(Scenario("S0 W0", tracking=False))
    assert way is not None
