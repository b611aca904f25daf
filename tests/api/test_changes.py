"""The feed of changes: for clients that keep a copy, each customer their own."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from servease_appt.db import events
from tests.support.dataset import Asker, Dataset

PATH = "/appointments/changes/"


@pytest.fixture
def begun(dataset: Dataset) -> str:
    """The query that begins after all that earlier tests have changed."""
    return urlsplit(next_of(dataset.ada, "page_size=500&updated_since=2999-01-01T00:00:00Z")).query


def next_of(asker: Asker, query: str) -> str:
    address: str = asker.get(f"{PATH}?{query}").get_json()["next"]
    return address


def seen(asker: Asker, query: str) -> list[tuple[str, str]]:
    """What the feed has after a place."""
    answer = asker.get(f"{PATH}?{query}")
    assert answer.status_code == 200, answer.data
    return [(row["event"], row["appointment_id"]) for row in answer.get_json()["results"]]


def test_changes_and_deletions_in_order(dataset: Dataset, begun: str) -> None:
    """Through the API and past it; what was committed before the request is in the answer."""
    booked = dataset.alice.post("/appointments/", dataset.booking()).get_json()["id"]
    dataset.erin.post(f"/appointments/{booked}/confirm/")
    planted = dataset.appointment(customer_id=dataset.bob_id)
    dataset.alice.patch(f"/appointments/{booked}/", {"customer_notes": "x"})
    dataset.ada.delete(f"/appointments/{booked}/")

    expected = [("booked", booked), ("confirmed", booked), ("edited", booked), ("deleted", booked)]
    assert seen(dataset.erin, begun) == [*expected[:2], ("booked", planted), *expected[2:]]
    assert seen(dataset.alice, begun) == expected
    assert seen(dataset.bob, begun) == [("booked", planted)]
    row = dataset.alice.get(f"{PATH}?{begun}").get_json()["results"][1]
    assert set(row) == {"number", "event", "appointment_id", "customer_id", "status", "occurred_at"}
    assert (row["customer_id"], row["status"]) == (dataset.alice_id, "confirmed")


def test_next_leads_on_for_ever(dataset: Dataset, begun: str) -> None:
    """Also from an empty answer, and past what the caller may not see."""
    made = [dataset.appointment() for _ in range(5)]
    query, parts = begun.replace("page_size=500", "page_size=2"), []
    while True:
        page = dataset.alice.get(f"{PATH}?{query}").get_json()
        parts.append([row["appointment_id"] for row in page["results"]])
        query = urlsplit(page["next"]).query
        if not page["has_more"]:
            break
    assert parts == [made[:2], made[2:4], made[4:]]
    assert "updated_since" not in query
    assert seen(dataset.alice, query) == []
    dataset.appointment(customer_id=dataset.bob_id)
    assert seen(dataset.alice, query) == []
    later = dataset.appointment()
    assert seen(dataset.alice, urlsplit(next_of(dataset.bob, query)).query) == []
    assert seen(dataset.alice, query) == [("booked", later)]


def test_updated_since(dataset: Dataset) -> None:
    """A moment with Z or an offset; the future has nothing yet."""
    made = dataset.appointment()
    day_ago = datetime.now(UTC) - timedelta(days=1)
    assert seen(dataset.alice, f"updated_since={day_ago.isoformat()[:19]}Z") == [("booked", made)]
    assert seen(dataset.alice, f"updated_since={day_ago.isoformat()[:19]}%2B00:00") == [("booked", made)]
    assert seen(dataset.alice, "updated_since=2999-01-01T00:00:00Z") == []
    assert ("booked", made) in seen(dataset.alice, "")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("updated_since=2026-01-01", "updated_since"),
        ("updated_since=2026-01-01T00:00:00", "updated_since"),
        ("updated_since=2026-02-30T00:00:00Z", "updated_since"),
        ("updated_since=2026-01-01T00:00:00 00:00", "updated_since"),
        ("updated_since=0001-01-01T00:00:00%2B99:99", "updated_since"),
        ("updated_since=%D9%A2026-01-01T00:00:00Z", "updated_since"),
        ("cursor=1", "cursor"),
        ("page_size=501", "page_size"),
    ],
)
def test_a_wrong_query_is_named(dataset: Dataset, query: str, field: str) -> None:
    """400 for the parameter."""
    answer = dataset.erin.get(f"{PATH}?{query}")
    assert (answer.status_code, list(answer.get_json())) == (400, [field])


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"])
def test_moments_at_the_ends_of_the_calendar(dataset: Dataset, moment: str) -> None:
    """Are moments like others."""
    assert dataset.erin.get(f"{PATH}?updated_since={moment}").status_code == 200


def test_what_is_no_longer_kept_is_410(dataset: Dataset, begun: str) -> None:
    """A client that was away for too long is told to read everything again; a cursor of the list is refused."""
    for _ in range(2):
        dataset.appointment()
    current = urlsplit(next_of(dataset.alice, begun)).query
    old = events.KEPT + timedelta(days=1)
    with dataset.container.database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE appointment_events SET published_at = published_at - %(old)s", {"old": old}
        )
    while dataset.count("appointment_events"):
        events.drop_old(dataset.container.database)

    gone = dataset.alice.get(f"{PATH}?{begun}")
    assert (gone.status_code, list(gone.get_json())) == (410, ["detail"])
    assert seen(dataset.alice, current) == []
    assert seen(dataset.alice, "") == []
    page = dataset.alice.get("/appointments/?cursor=*&page_size=1").get_json()
    assert dataset.alice.get(f"{PATH}?{urlsplit(page['next']).query}").status_code == 400
