"""Queries of the list: several statuses, the order, ids, cursors; and what a caller has already."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.dataset import Asker, Dataset, new_id, weekday


def _ids(page: dict[str, Any]) -> list[str]:
    return [row["id"] for row in page["results"]]


def _pages(asker: Asker, query: str, direction: str = "next") -> Iterator[dict[str, Any]]:
    """The page of a query and those that follow it."""
    while True:
        answer = asker.get(f"/appointments/?{query}")
        assert answer.status_code == 200, answer.data
        page = answer.get_json()
        yield page
        if page[direction] is None:
            return
        query = urlsplit(page[direction]).query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=pending,confirmed", {"pending", "confirmed"}),
        ("status=pending&status=confirmed", {"pending", "confirmed"}),
        ("status=pending,confirmed&status=cancelled&status=", {"pending", "confirmed", "cancelled"}),
        ("status=cancelled,cancelled", {"cancelled"}),
        ("status=no_show,completed", set()),
    ],
)
def test_several_statuses(dataset: Dataset, query: str, expected: set[str]) -> None:
    """Any of them; with commas, or by repeating the name."""
    for status in ("pending", "confirmed", "cancelled"):
        dataset.appointment(status=status, assigned_employee_id=dataset.erin_id)
    for asker, path in (
        (dataset.erin, "/appointments/"),
        (dataset.alice, "/appointments/"),
        (dataset.erin, f"/appointments/vehicle_history/?vehicle_id={dataset.alices_car}&page=1"),
    ):
        page = asker.get(f"{path}{'&' if '?' in path else '?'}{query}").get_json()
        assert {row["status"] for row in page["results"]} == expected
        assert page["count"] == len(expected)


@pytest.mark.parametrize("path", ["/appointments/", "/appointments/customer_appointments/"])
def test_the_order(dataset: Dataset, path: str) -> None:
    """By the start, the latest or the earliest first; the one is the other turned round."""
    for number in (2, 1, 3, 1):
        dataset.appointment(scheduled_date=weekday(number))
    query = {"customer_id": dataset.alice_id, "page": "1"}
    usual = _ids(dataset.erin.get(path, query_string=query).get_json())
    latest = dataset.erin.get(path, query_string={**query, "sort": "-scheduled_date"}).get_json()
    earliest = dataset.erin.get(path, query_string={**query, "sort": "scheduled_date"}).get_json()
    assert _ids(latest) == usual
    assert _ids(earliest) == usual[::-1]
    array = dataset.erin.get(
        "/appointments/customer_appointments/",
        query_string={"customer_id": dataset.alice_id, "sort": "scheduled_date"},
    ).get_json()
    assert [row["id"] for row in array] == usual[::-1]


def test_links_keep_the_order(dataset: Dataset) -> None:
    """The next page goes on in the order of the first."""
    for _ in range(5):
        dataset.appointment()
    pages = list(_pages(dataset.alice, "sort=scheduled_date&page_size=2"))
    starts = [(row["scheduled_date"], row["scheduled_time"]) for page in pages for row in page["results"]]
    assert len(starts) == 5
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("query", "field", "named"),
    [
        ("sort=created_at", "sort", "-scheduled_date, scheduled_date"),
        ("sort=customer_notes;drop", "sort", "-scheduled_date, scheduled_date"),
        ("status=pending,done", "status", "pending, confirmed"),
        ("status=pending,", "status", "pending, confirmed"),
        ("status=,", "status", "pending, confirmed"),
        ("ids=1", "ids", "UUIDs with commas"),
        ("ids=,", "ids", "UUIDs with commas"),
        (f"ids={','.join(new_id() for _ in range(101))}", "ids", "1 to 100"),
        ("cursor=1", "cursor", "Begin again with *"),
        ("cursor=%C3%A9", "cursor", "Begin again with *"),
        ("cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "cursor", "Begin again with *"),
        (f"cursor={'A' * 501}", "cursor", "500"),
    ],
)
def test_a_wrong_query_is_named(dataset: Dataset, query: str, field: str, named: str) -> None:
    """400 for the parameter, with what is allowed."""
    answer = dataset.erin.get(f"/appointments/?{query}")
    assert (answer.status_code, list(answer.get_json())) == (400, [field])
    assert named in answer.get_json()[field][0]


def test_a_page_by_ids(dataset: Dataset) -> None:
    """What exists and may be seen, once, in the order of the list; one lookup of names for all."""
    mine = [dataset.appointment() for _ in range(25)]
    foreign = dataset.appointment(customer_id=dataset.bob_id, vehicle_id=dataset.bobs_car)
    asked = [*mine, foreign, new_id(), mine[0].upper()]
    usual = _ids(dataset.alice.get("/appointments/?page_size=100").get_json())
    answer = dataset.alice.get(f"/appointments/?ids={','.join(asked)}")
    page = answer.get_json()
    assert (page["count"], page["next"], _ids(page)) == (25, None, usual)
    assert sum(int(part.partition("=")[2]) for part in answer.headers["X-Cache"].split()) == 2
    repeated = dataset.erin.get(f"/appointments/?ids={mine[0]}&ids={foreign}&status=pending").get_json()
    assert set(_ids(repeated)) == {mine[0], foreign}
    small = list(_pages(dataset.alice, f"ids={','.join(mine)}&page_size=10"))
    assert [len(part["results"]) for part in small] == [10, 10, 5]


def test_a_hundred_ids_fit_into_an_address(dataset: Dataset) -> None:
    """Also with the commas in percent signs."""
    ids = [new_id() for _ in range(99)] + [dataset.appointment()]
    page = dataset.alice.get("/appointments/", query_string={"ids": ",".join(ids)}).get_json()
    assert _ids(page) == ids[-1:]


@pytest.mark.parametrize("order", ["-scheduled_date", "scheduled_date"])
def test_a_cursor_leads_through_the_list(dataset: Dataset, order: str) -> None:
    """`next` and `previous` have cursors; a row that appears or goes in front of them moves no other."""
    made = [dataset.appointment() for _ in range(5)]
    expected = made if order == "scheduled_date" else made[::-1]
    query = f"cursor=*&page_size=2&sort={order}&status=pending"
    first, second, third = _pages(dataset.alice, query)
    assert [_ids(page) for page in (first, second, third)] == [expected[:2], expected[2:4], expected[4:]]
    assert [page["count"] for page in (first, second, third)] == [5, 5, 5]
    assert first["previous"] is None
    parsed = parse_qs(urlsplit(first["next"]).query)
    assert (set(parsed), parsed["status"]) == ({"cursor", "page_size", "sort", "status"}, ["pending"])

    assert dataset.ada.delete(f"/appointments/{expected[1]}/").status_code == 204
    early = weekday(1) if order == "scheduled_date" else weekday(40)
    dataset.appointment(scheduled_date=early)
    again = next(_pages(dataset.alice, urlsplit(first["next"]).query))
    assert _ids(again) == expected[2:4]
    back = list(_pages(dataset.alice, urlsplit(third["previous"]).query, "previous"))
    assert _ids(back[0]) == expected[2:4]
    assert back[-1]["previous"] is None


def test_a_cursor_gives_no_rights(dataset: Dataset) -> None:
    """Somebody else's is a position and nothing more; one of another order, or a changed one, is refused."""
    for _ in range(3):
        dataset.appointment()
    page = dataset.alice.get("/appointments/?cursor=*&page_size=1").get_json()
    cursor = parse_qs(urlsplit(page["next"]).query)["cursor"][0]
    theirs = dataset.bob.get(f"/appointments/?cursor={cursor}").get_json()
    assert (theirs["count"], theirs["results"]) == (0, [])
    assert dataset.alice.get(f"/appointments/?cursor={cursor}&sort=scheduled_date").status_code == 400
    for position in (0, 20, len(cursor) - 2):
        other = "A" if cursor[position] != "A" else "B"
        changed = cursor[:position] + other + cursor[position + 1 :]
        assert dataset.alice.get(f"/appointments/?cursor={changed}").status_code == 400


def test_what_the_caller_has_is_304(dataset: Dataset) -> None:
    """With the tag of the current detail there is no body; the tag changes with the row and with a name."""
    path = f"/appointments/{dataset.appointment()}/"
    detail = dataset.alice.get(path)
    tag = detail.headers["ETag"]
    for header in (tag, f'"x", W/{tag}', "*"):
        known = dataset.alice.get(path, headers={"If-None-Match": header})
        assert (known.status_code, known.data, known.headers["ETag"]) == (304, b"", tag)
        assert "Content-Type" not in known.headers
        assert known.headers["X-Cache"] == "l1=2 l2=0 upstream=0 stale=0 unknown=0"
    for header in ('"x"', tag.strip('"'), "", "," * 3):
        assert dataset.alice.get(path, headers={"If-None-Match": header}).data == detail.data

    dataset.fake_services.customers.put({"id": dataset.alice_id, "full_name": "Alice Bee", "email": "a@b.c"})
    dataset.container.lookups.invalidate("customer", [dataset.alice_id])
    renamed = dataset.alice.get(path, headers={"If-None-Match": tag})
    assert (renamed.status_code, renamed.get_json()["customer_name"]) == (200, "Alice Bee")
    assert renamed.headers["ETag"] != tag

    changed = dataset.alice.patch(path, {"customer_notes": "x"}, headers={"If-Match": tag})
    assert changed.status_code == 200, "an edit does not depend on names"
    newest = dataset.alice.get(path, headers={"If-None-Match": renamed.headers["ETag"]})
    assert (newest.status_code, newest.headers["ETag"]) == (200, changed.headers["ETag"])
    assert dataset.alice.patch(path, {}, headers={"If-Match": tag}).status_code == 412
    assert dataset.bob.get(path, headers={"If-None-Match": "*"}).status_code == 404
