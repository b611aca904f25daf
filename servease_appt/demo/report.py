"""The demo's output, and the checks of it."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import jwt

from servease_appt.demo.measurement import COLD_RUNS, WARM_RUNS, Fetch, Measurement, typical, typical_commands
from servease_appt.demo.sample_data import DemoData
from servease_appt.demo.web import API

MAX_COLD_RATIO = 3.0
NEW_NAME = "Somebody Else"
_ADMIN_ID = "ad000000-0000-4000-8000-000000000001"
_WIDTH = 16


def demo_tokens(secret_key: str, data: DemoData, lifetime: timedelta) -> dict[str, str]:
    """Return bearer tokens of a customer, an employee and an admin by role."""
    customer, employee = data.people.customers[0], data.people.employees[0]
    return {
        "customer": _token(secret_key, customer["id"], "customer", customer["full_name"], lifetime),
        "employee": _token(secret_key, employee["id"], "employee", employee["full_name"], lifetime),
        "admin": _token(secret_key, _ADMIN_ID, "admin", "Ad Min", lifetime),
    }


def _token(secret_key: str, user_id: str, role: str, full_name: str, lifetime: timedelta) -> str:
    """Return a bearer token like those of the platform's authentication service."""
    first, _, last = full_name.partition(" ")
    claims = {
        "user_id": user_id,
        "user_role": role,
        "email": f"{first}.{last}@example.com".lower(),
        "first_name": first,
        "last_name": last,
        "token_type": "access",
        "exp": datetime.now(UTC) + lifetime,
    }
    return jwt.encode(claims, secret_key, algorithm="HS256")


def comparison(measurement: Measurement) -> Iterator[str]:
    """Yield the table, line by line."""
    one_ms = measurement.upstream_call_ms
    columns = {"cold": measurement.cold, "2nd worker": measurement.other_worker, "warm": measurement.warm}
    fetches = {title: typical(several) for title, several in columns.items() if several}
    yield (
        f"The appointment list: {len(measurement.cold[0].rows)} appointments with {measurement.references}"
        " distinct customers, vehicles and employees"
    )
    yield ""
    yield _row("", list(fetches))
    yield _row("time", [f"{fetch.took_ms:.1f} ms" for fetch in fetches.values()])
    yield _row("against one upstream call", [f"{fetch.took_ms / one_ms:.2f} ×" for fetch in fetches.values()])
    yield _row("upstream calls", [str(fetch.upstream_calls) for fetch in fetches.values()])
    yield _row("Redis commands", [str(typical_commands(several)) for several in columns.values() if several])
    yield _row("names came from", [_where_from(fetch) for fetch in fetches.values()])
    yield ""
    yield f"One upstream call takes {one_ms:.1f} ms. Each column is the fetch with the median time of several."
    yield f"cold ({COLD_RUNS}): both tiers were empty. 2nd worker ({COLD_RUNS - 1}): only Redis had the names."
    yield f"warm ({WARM_RUNS}): the worker had the names in its own memory."
    yield "Redis commands: the median of what the workers sent during a fetch, without the connections on which"
    yield "they listen for invalidations."


def _row(title: str, values: list[str]) -> str:
    return f"  {title:<27}" + "".join(f"{value:>{_WIDTH}}" for value in values)


def _where_from(fetch: Fetch) -> str:
    return " ".join(f"{name}={count}" for name, count in fetch.sources.items() if count)


def checks(measurement: Measurement) -> Iterator[tuple[bool, str]]:
    """Yield for each promise of the service whether the measurement kept it, with a sentence."""
    cold, warm = typical(measurement.cold), typical(measurement.warm)
    everything = [*measurement.cold, *measurement.other_worker, *measurement.warm]
    ratio = cold.took_ms / measurement.upstream_call_ms
    names = ("customer_name", "vehicle_details", "employee_name")
    yield all(fetch.status == 200 for fetch in everything), "every fetch was answered with 200"
    yield len(cold.rows) == 20, f"the page has 20 appointments ({len(cold.rows)})"
    yield measurement.references == 60, f"it refers to 60 different things ({measurement.references})"
    yield (
        all(row[name] and row[name] not in {"Unknown", "Unassigned"} for row in cold.rows for name in names),
        "each appointment shows all its names",
    )
    yield all(fetch.rows == cold.rows for fetch in everything), "every fetch showed the same"
    yield ratio <= MAX_COLD_RATIO, f"cold took at most {MAX_COLD_RATIO:g} upstream calls' time ({ratio:.2f})"
    yield cold.upstream_calls == 60, f"cold asked for each thing once ({cold.upstream_calls} calls)"
    yield cold.sources["upstream"] == 60, f"cold says so ({cold.x_cache})"
    yield warm.took_ms < cold.took_ms, "warm was faster than cold"
    yield not any(fetch.upstream_calls for fetch in measurement.warm), "warm made no upstream call"
    yield typical_commands(measurement.warm) == 0, "warm sent no Redis command"
    yield all(fetch.sources["l1"] == 60 for fetch in measurement.warm), f"warm says so ({warm.x_cache})"
    if measurement.other_worker:
        other = typical(measurement.other_worker)
        yield other.upstream_calls == 0, "the second worker made no upstream call"
        commands = typical_commands(measurement.other_worker)
        yield commands == 1, f"it sent one Redis command ({commands})"


def invitation(base_url: str, tokens: Mapping[str, str], data: DemoData, customers_url: str) -> Iterator[str]:
    """Yield lines to paste into a shell, in which `tokens` stand in double quotes for each role's token."""
    customer, employee = data.people.customers[0], data.people.employees[0]
    vehicle = data.people.vehicles_of(customer["id"])[0]
    appointments, cache = f"{base_url}{API}/appointments/", f"{base_url}{API}/cache"
    booking = {
        "customer_id": customer["id"],
        "vehicle_id": vehicle["id"],
        "appointment_type": "inspection",
        "scheduled_date": str(max(slot["date"] for slot in data.schedule.slots)),
        "scheduled_time": "09:45",
    }
    bearer = {role: f'-H "Authorization: Bearer {token}"' for role, token in tokens.items()}
    curl, json_body = r"curl -s -w '\n'", '-H "Content-Type: application/json"'
    yield "# The list, with where its names came from (X-Cache) and what it took (Server-Timing)"
    yield f'{curl} -i {bearer["admin"]} "{appointments}?page_size=2"'
    yield f"# What {customer['full_name']} sees, and when there is room for another hour"
    yield f"{curl} {bearer['customer']} {appointments}"
    days = f"start_date={booking['scheduled_date']}&end_date={booking['scheduled_date']}"
    yield f'{curl} {bearer["customer"]} "{appointments}available_slots/?{days}"'
    yield "# Book it"
    yield f"{curl} {bearer['customer']} {json_body} -d '{json.dumps(booking)}' {appointments}"
    yield f"# The schedule of {employee['full_name']}"
    yield f'{curl} {bearer["employee"]} "{appointments}employee_schedule/?employee_id={employee["id"]}"'
    yield f"# The name of {customer['full_name']} in eight answers at a time, from all workers"
    yield (
        f"names() {{ for n in 1 2 3 4 5 6 7 8; do curl -s {bearer['admin']}"
        f' "{appointments}?page_size=1&customer_id={customer["id"]}" &'
        """ done | grep -o '"customer_name":"[^"]*"' | sort | uniq -c; }"""
    )
    yield "names"
    renamed = {"do": "put", "entries": [{**customer, "full_name": NEW_NAME}]}
    yield "# The customer service gives the customer another name: the cache has the old one until it expires"
    yield f"curl -s -d '{json.dumps(renamed)}' {customers_url}/__control > /dev/null"
    yield "names"
    invalidation = {"entity": "customer", "ids": [customer["id"]]}
    yield "# After an invalidation all workers show the new name"
    yield f"{curl} {bearer['admin']} {json_body} -d '{json.dumps(invalidation)}' {cache}/invalidate/"
    yield "names"
    yield "# Counts of the cache"
    yield f"{curl} {bearer['admin']} {cache}/stats/"
