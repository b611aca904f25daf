"""The dashboard: who may see it, what it tells, and the page itself in a real browser."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
import redis
from flask import Flask

from servease_appt.app import install
from servease_appt.dashboard import checkup
from servease_appt.dashboard.blueprint import SCRIPTS
from servease_appt.dashboard.links import PATH, dashboard_link, session_token
from servease_appt.doctor import settings_checks
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.chromium import Chromium, find_chromium
from tests.support.cli import Cli
from tests.support.dataset import SECRET, new_id, token
from tests.support.forged_answers import forged_answers
from tests.support.served import ADMIN, Answer, Served, serve, settings

LIST = "/api/v1/appointments/"
PAGE = Path(__file__).parents[2] / "servease_appt/dashboard/page"
FILES = {
    "page.css": "text/css",
    **{f"{name}.js": "text/javascript" for name in SCRIPTS},
}
ENTITY = {"entity": "customer", "id": new_id()}
DATA: tuple[tuple[str, str, object], ...] = (
    ("GET", "keys", None),
    ("GET", "events", None),
    ("POST", "doctor", {}),
    ("GET", "data", None),
    ("POST", "explain", ENTITY),
    ("POST", "invalidate", ENTITY),
)


def _code(link: str) -> str:
    return link.partition("#code=")[2]


def _session(served: Served, code: str) -> Answer:
    return served.ask("POST", f"{PATH}session", {"code": code}, bearer=None)


@pytest.mark.parametrize("path", [PATH, PATH.rstrip("/")])
def test_the_page_is_local_and_runs_no_inline_script(served: Served, path: str) -> None:
    """Nothing but files of this package, under a policy that lets nothing else in."""
    answer = served.get(path, bearer=None)
    page = answer.body.decode()

    policy = answer.headers["Content-Security-Policy"]
    assert answer.status == 200
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|javascript:", page) == []
    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {link for link in linked if link != "data:,"} == {
        f"{PATH}{name}" for name in ("page.css", "token.js", "page.js")
    }


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_served_and_names_no_other_host(served: Served, name: str) -> None:
    """Styles and scripts come with their types, need no token, and load nothing from elsewhere."""
    answer = served.get(f"{PATH}{name}", bearer=None)

    assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (200, FILES[name])
    assert answer.body == (PAGE / name).read_bytes()
    elsewhere = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", answer.body.decode())
    assert set(elsewhere) <= {"http://www.w3.org"}
    assert (
        re.findall(r"innerHTML|insertAdjacent|document\.write|eval\(|new Function", answer.body.decode())
        == []
    )


@pytest.mark.parametrize(("method", "name", "body"), DATA, ids=[name for _, name, _ in DATA])
def test_data_is_for_admins(served: Served, method: str, name: str, body: object) -> None:
    """Without a token 401; customers, employees and services get 403."""

    def status(bearer: str | None) -> int:
        return served.ask(method, f"{PATH}{name}", body, bearer=bearer).status

    assert status(None) == 401
    assert [status(token(user_role=role)) for role in ("customer", "employee", "service")] == [403] * 3
    assert status(ADMIN) == 200


def test_other_methods_and_paths_are_errors_in_json(served: Served) -> None:
    """The dashboard's paths answer as the rest of the service does."""
    wrong = served.ask("POST", f"{PATH}data", {})
    unknown = served.get(f"{PATH}page.html")

    assert (wrong.status, unknown.status) == (405, 404)
    assert set(wrong.json) == set(unknown.json) == {"detail"}


def test_a_link_opens_the_dashboard_once(served: Served) -> None:
    """Its code is exchanged for one token; what a browser's history keeps is worth nothing."""
    link = dashboard_link(served.gunicorn.url + "/", SECRET)
    first = _session(served, _code(link))
    again = _session(served, _code(link))

    assert re.fullmatch(rf"{served.gunicorn.url}{PATH}#code=[\w-]+\.[\w-]+\.[\w-]+", link)
    assert (first.status, again.status) == (200, 401)
    assert served.get(f"{PATH}data", bearer=first.json["token"]).status == 200
    claims = jwt.decode(first.json["token"], SECRET, algorithms=["HS256"])
    assert claims["exp"] - time.time() <= 30 * 60


def test_the_command_prints_a_link_that_opens_the_page(served: Served, cli: Cli) -> None:
    """`cache dashboard` prints one address on its standard output, for the service as a browser reaches it."""
    link = cli.run("dashboard", "--url", served.gunicorn.url).stdout.strip()
    token = _session(served, _code(link)).json["token"]

    assert link.startswith(f"{served.gunicorn.url}{PATH}#code=")
    assert served.get(f"{PATH}data", bearer=token).status == 200
    assert cli.run("dashboard").stdout.startswith(f"http://localhost:8005{PATH}#code=")
    cli.run("dashboard", "--url", "localhost:8005", exit_code=2)


def test_a_code_is_no_token_and_a_token_no_code(served: Served) -> None:
    """The code opens nothing but the dashboard; nothing else stands in for a code."""
    code = _code(dashboard_link("http://x", SECRET))
    claims = {"token_type": "dashboard_link", "jti": "1"}
    wrong = {
        "a token": session_token(SECRET),
        "a token of the platform's": token(jti="1", user_role="admin"),
        "expired": jwt.encode({**claims, "exp": int(time.time()) - 1}, SECRET),
        "endless": jwt.encode(claims, SECRET),
        "another's": _code(dashboard_link("http://x", "x" * 32)),
        "unsigned": jwt.encode({**claims, "exp": int(time.time()) + 60}, None, algorithm="none"),
        "nonsense": "nonsense",
        "empty": "",
    }

    assert served.get(LIST, bearer=code).status == 401
    assert served.get(f"{PATH}data", bearer=code).status == 401
    assert {name: _session(served, text).status for name, text in wrong.items()} == dict.fromkeys(wrong, 401)
    assert served.ask("POST", f"{PATH}session", {"code": 7}, bearer=None).status == 400


def test_the_pages_token_opens_nothing_but_the_dashboard(served: Served) -> None:
    """For half an hour it lies in a browser's tab: it must not be able to touch an appointment."""
    token = _session(served, _code(dashboard_link("http://x", SECRET))).json["token"]
    appointment = served.dataset.appointment()

    def status(method: str, path: str, body: object = None) -> int:
        return served.ask(method, path, body, bearer=token).status

    assert status("GET", f"{PATH}data") == 200
    assert status("GET", LIST) == 401
    assert status("DELETE", f"{LIST}{appointment}/") == 401
    assert status("GET", "/api/v1/cache/stats/") == 401
    assert status("POST", "/api/v1/cache/invalidate/", {"entity": "customer", "ids": [new_id()]}) == 401
    assert served.get(f"{LIST}{appointment}/").status == 200


def _has_history(served: Served) -> bool:
    return bool(len(served.get(f"{PATH}data").json["history"]) >= 2)


def test_the_data_tells_of_all_workers(served: Served) -> None:
    """Totals are the metrics' own, each worker has its row, and the history grows and is told in parts."""
    dataset = served.dataset
    customer = new_id()
    appointment = dataset.appointment(customer_id=customer)
    served.get(f"{LIST}{appointment}/")
    before = served.get(f"{PATH}data").json
    dataset.container.lookups.invalidate("customer", [customer])

    def all_have_heard() -> bool:
        rows = served.get(f"{PATH}data").json["workers"]
        heard = sum(row["heard"] for row in rows)
        return bool(heard == sum(row["heard"] for row in before["workers"]) + 2)

    assert wait_until(all_have_heard, timeout_s=30)
    assert wait_until(lambda: _has_history(served), timeout_s=30, interval_s=0.1)
    told = served.get(f"{PATH}data").json
    later = served.get(f"{PATH}data?since={told['history'][0]['at_s']}").json
    metrics = served.metrics()

    assert told["modes"] == {"both": 2, "l2_only": 0, "l1_only": 0, "direct": 0}
    assert told["breakers"]["redis"] == {"closed": 2, "open": 0, "half_open": 0}
    assert told["workers_expected"] == len(told["workers"]) == 2
    pids = {int(row["worker"].rpartition(":")[2]) for row in told["workers"]}
    assert pids == set(served.gunicorn.worker_pids())
    assert all(row["heard_s_ago"] < 2 and row["answered_ms"] < 500 for row in told["workers"])
    assert all(row["behind"] == 0 and row["sequence"] >= 1 for row in told["workers"])
    assert all(20 < row["resident_bytes"] / 2**20 < 1000 for row in told["workers"])
    name = 'servease_cache_events_total{entity="customer",event="miss",tier="l1"}'
    assert told["latest"]["events"]["l1.miss.customer"] == metrics[name]
    assert len(told["latest"]["http"]) == len(told["ends_s"]["http"]) + 1
    assert sum(told["latest"]["http"]) > 0
    assert told["endpoints"]["get_appointment"]["hit_rate"] is not None
    times = [sample["at_s"] for sample in told["history"]]
    assert times == sorted(times)
    assert all(sample["at_s"] > told["history"][0]["at_s"] for sample in later["history"])


def test_an_entity_can_be_looked_up_and_dropped(served: Served) -> None:
    """`explain` tells what each worker holds; after `invalidate` every worker has answered, and holds nothing."""
    customer = new_id()
    served.dataset.fake_services.customers.put(
        {"id": customer, "full_name": "Cleo Crab", "email": "c@example.com"}
    )
    appointment = served.dataset.appointment(customer_id=customer)
    named = {"entity": "customer", "id": customer.upper()}

    def explained() -> Any:
        return served.ask("POST", f"{PATH}explain", named).json

    def both_hold_it() -> bool:
        served.get(f"{LIST}{appointment}/")
        return all(worker["same_as_l2"] for worker in explained()["workers"])

    assert wait_until(both_hold_it, timeout_s=30)
    held = explained()
    dropped = served.ask("POST", f"{PATH}invalidate", named).json
    after = explained()

    assert held["key"] == f"customer_{customer}"
    assert held["l2"]["there"]
    assert held["l2"]["last_known_copy"]
    assert 0 < held["l2"]["left_s"] <= 300
    assert "Cleo" not in str(held)
    assert len(dropped["workers"]) == dropped["workers_expected"] == 2
    assert all(0 < worker["after_ms"] < 1000 for worker in dropped["workers"])
    assert [worker["l1"] for worker in after["workers"]] == [None, None]
    assert not after["l2"]["there"]
    assert not after["l2"]["last_known_copy"]
    assert all(worker["last_event"]["event"] == "invalidation" for worker in after["workers"])


def test_answers_that_no_worker_gave_are_left_out(served: Served, client: redis.Redis) -> None:
    """Anybody may publish on the workers' channels: the page shows the workers, and does not fail."""
    with forged_answers(client):
        shown = served.get(f"{PATH}data")
        explained = served.ask("POST", f"{PATH}explain", ENTITY)
        dropped = served.ask("POST", f"{PATH}invalidate", ENTITY)

    pids = set(served.gunicorn.worker_pids())
    assert [answer.status for answer in (shown, explained, dropped)] == [200, 200, 200]
    assert {int(row["worker"].rpartition(":")[2]) for row in shown.json["workers"]} <= pids
    assert {int(row["worker"].rpartition(":")[2]) for row in explained.json["workers"]} <= pids


def test_keys_are_listed_page_by_page(served: Served, client: redis.Redis) -> None:
    """Each of many keys is on some page, with its lifetime; bookkeeping and other prefixes are on none."""
    prefix = "appointment_service"
    ids = [f"customer_{new_id()}" for _ in range(300)]
    with client.pipeline(transaction=False) as pipeline:
        for key in ids:
            pipeline.set(f"{prefix}:{key}", "{}", ex=100)
        pipeline.set(f"{prefix}:vehicle_{ENTITY['id']}", "[]")
        pipeline.set(f"another:customer_{ENTITY['id']}", "{}", ex=100)
        pipeline.execute()
    pages, cursor = [], "0.0"
    while cursor is not None:
        page = served.get(f"{PATH}keys?entity=customer&cursor={cursor}").json
        pages.append(page["rows"])
        cursor = page["cursor"]
    rows = {row["key"]: row for page in pages for row in page}
    vehicles = served.get(f"{PATH}keys?entity=vehicle").json["rows"]
    client.delete(*(f"{prefix}:{key}" for key in ids), f"{prefix}:vehicle_{ENTITY['id']}")

    assert len(pages) > 1
    assert max(map(len, pages)) < 300
    assert set(ids) <= rows.keys()
    assert all(key.startswith("customer_") for key in rows)
    assert all(0 < rows[key]["left_s"] <= 100 for key in ids)
    assert {"key": f"vehicle_{ENTITY['id']}", "left_s": None} in vehicles
    assert served.get(f"{PATH}keys?cursor=x").status == 400
    assert served.get(f"{PATH}keys?entity=person").status == 400


def test_the_events_of_all_workers_are_told_since_a_time(served: Served) -> None:
    """Both workers report the invalidation, with its key; what came before is not repeated."""
    since_s = time.time()
    served.ask("POST", f"{PATH}invalidate", ENTITY)
    told = served.get(f"{PATH}events?since={since_s}").json["events"]
    ours = [event for event in told if event["key"] == f"customer_{ENTITY['id']}"]
    later = served.get(f"{PATH}events?since={told[-1]['at_s']}").json["events"]

    pids = set(served.gunicorn.worker_pids())
    assert {int(event["worker"].rpartition(":")[2]) for event in ours} == pids
    assert {event["event"] for event in ours} == {"invalidation"}
    assert [event["at_s"] for event in told] == sorted(event["at_s"] for event in told)
    assert all(event["at_s"] > since_s for event in told)
    assert not [event for event in later if event in told]


def test_the_doctor_finds_what_the_command_finds(served: Served, cli: Cli) -> None:
    """The same areas in the same form; what depends on no measurement is the same to the letter."""
    shown = served.ask("POST", f"{PATH}doctor", {}).json
    # Its exit code is not looked at: on a busy machine a slow answer is a warning.
    printed = json.loads(cli.app.test_cli_runner().invoke(args=["cache", "doctor", "--json"]).stdout)

    def areas(report: Any) -> set[str]:
        return {found["area"] for found in report["findings"]}

    def of_settings(report: Any) -> list[dict[str, str]]:
        return [found for found in report["findings"] if found["area"] == "settings"]

    assert shown.keys() == printed.keys()
    assert areas(shown) == areas(printed) >= {"redis", "workers", "services", "settings"}
    assert of_settings(shown) == of_settings(printed) != []
    assert {frozenset(found) for found in shown["findings"]} == {frozenset(printed["findings"][0])}


def test_the_doctor_ends_in_time(without_redis: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that hangs is a finding after the time limit; a second examination meanwhile is refused."""
    go_on, hangs = threading.Event(), threading.Event()

    def hang(*_: object) -> Iterator[Any]:
        hangs.set()
        go_on.wait(30)
        yield from ()

    monkeypatch.setattr(settings_checks, "check", hang)
    monkeypatch.setattr(checkup, "WITHIN_S", 1.0)
    headers = {"Authorization": f"Bearer {ADMIN}"}

    def run() -> Any:
        return without_redis.test_client().post(f"{PATH}doctor", headers=headers, json={})

    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(run)
        assert hangs.wait(10)
        second = run()
        report = first.result(20).json
        go_on.set()

    assert second.status_code == 429
    assert second.headers["Retry-After"]
    assert [found["area"] for found in report["findings"]].count("settings") == 1
    (unfinished,) = [found for found in report["findings"] if found["area"] == "settings"]
    assert unfinished["says"] == "The check of settings has not ended within 1 s."
    assert any(found["area"] == "redis" and found["level"] == "problem" for found in report["findings"])


@pytest.mark.parametrize("name", ["explain", "invalidate"])
@pytest.mark.parametrize(
    "body",
    [{"entity": "person", "id": new_id()}, {"entity": "customer", "id": "1"}, {"entity": "customer"}, []],
)
def test_what_names_no_entity_is_refused(served: Served, name: str, body: object) -> None:
    """400, saying which field is wrong."""
    assert served.ask("POST", f"{PATH}{name}", body).status == 400


def test_without_redis_it_tells_what_it_can(without_redis: Flask) -> None:
    """Figures and this worker are shown; what needs Redis is a 503; a link still opens the page."""
    client = without_redis.test_client()
    headers = {"Authorization": f"Bearer {ADMIN}"}
    client.get(f"{PATH}data", headers=headers)
    first = client.post(f"{PATH}session", json={"code": _code(dashboard_link("http://x", SECRET))})
    explained = client.post(f"{PATH}explain", headers=headers, json=ENTITY)
    dropped = client.post(f"{PATH}invalidate", headers=headers, json=ENTITY)
    told = client.get(f"{PATH}data", headers=headers)
    others = [client.get(f"{PATH}{name}", headers=headers).status_code for name in ("keys", "events")]

    assert others == [503, 503]
    assert first.status_code == 200
    assert [answer.status_code for answer in (explained, dropped)] == [503, 503]
    assert dropped.headers["Retry-After"]
    assert told.status_code == 200
    assert told.json is not None
    assert told.json["workers_expected"] == 0
    assert [row["behind"] for row in told.json["workers"]] == [None]
    assert [row["breakers"]["redis"] for row in told.json["workers"]] == ["open"]
    assert told.json["l2_entries"] is None


def test_a_host_application_gets_no_dashboard() -> None:
    """It belongs to the service on its own: an embedding adds nothing outside its prefix."""
    host = Flask("host")
    given = {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": "postgresql://nowhere/x",
        "REDIS_URL": "redis://127.0.0.1:1/1",
    }
    container = install(host, url_prefix="/garage", settings=given)

    assert host.test_client().get(PATH).status_code == 404
    container.close()


CHROMIUM = find_chromium()
L1_HAS_TIMES = """
[...document.querySelectorAll("#tiers tr")].some(({ cells: [name, ...figures] }) =>
  name.textContent === "L1 customer" && figures.slice(-2).every(({ textContent }) => Number(textContent) > 0))
"""
HOVER = """
(() => {
  const picture = document.querySelector("#hit-rate svg");
  const frame = picture.getBoundingClientRect();
  const at = { clientX: frame.right - 5, clientY: frame.top + 20, bubbles: true };
  picture.dispatchEvent(new PointerEvent("pointermove", at));
})()
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
def test_the_page_in_a_browser(
    valkey: EmbeddedValkey,
    new_database: Callable[[str], str],
    migrated_template: str,
    fake_services: FakeServices,
    tmp_path: Path,
) -> None:
    """It opens by a link, forgets it, shows live figures, finds and drops an entity, rests when hidden, fits a
    phone, turns dark, asks nobody else, and says so when it has lost contact."""
    environment = settings(
        new_database(migrated_template), valkey.url(1), fake_services, CACHE_KEY_PREFIX="browser"
    )
    with (
        serve(environment, fake_services, tmp_path) as served,
        Chromium(CHROMIUM or "", tmp_path / "profile") as browser,
    ):
        served.wait_for_metric(r'servease_cache_mode\{mode="both"\}', 2)
        served.dataset.appointment()
        link = dashboard_link(served.gunicorn.url, SECRET)
        browser.look(width=1200, height=900, dark=False)
        browser.open(link)
        browser.wait_for("document.querySelectorAll('#workers tbody tr').length === 2")
        address = browser.evaluate("location.href")
        stored = browser.evaluate("JSON.stringify(sessionStorage)")
        light = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        health = browser.evaluate(
            "[...document.querySelector('.tile').children].map((part) => part.textContent)"
        )
        unnamed = browser.evaluate(
            "[...document.querySelectorAll('th')].filter((cell) => !cell.textContent.trim()).length"
        )
        unreachable = browser.evaluate(
            "[...document.querySelectorAll('.wide, .chart')]"
            ".filter((part) => part.tabIndex < 0 || !part.ariaLabel).length"
        )

        for _ in range(3):  # one worker answers twice, and the second time from L1
            served.get(LIST)
        browser.wait_for(L1_HAS_TIMES)
        browser.wait_for("/list appointments.*%/.test(document.getElementById('endpoints').innerText)")
        browser.wait_for("document.querySelectorAll('.chart svg path').length >= 10")

        browser.evaluate(
            f"document.getElementById('entity').value = 'customer_{served.dataset.alice_id}';"
            "document.getElementById('search').requestSubmit()"
        )
        browser.wait_for("document.querySelectorAll('#found tbody tr').length === 2")
        browser.evaluate("document.getElementById('invalidate').click()")
        browser.wait_for("/deleted from Redis/.test(document.getElementById('found').innerText)")
        handled = browser.evaluate("document.getElementById('found').innerText")

        browser.wait_for("document.querySelectorAll('.chart svg circle').length > 0")
        browser.evaluate(HOVER)
        at_crosshair = browser.evaluate(
            "[document.querySelectorAll('.crosshair').length,"
            " new Set([...document.querySelectorAll('.legend li:last-child')].map((li) => li.textContent)).size,"
            " document.querySelector('.legend li:last-child').textContent]"
        )
        browser.evaluate("document.querySelector('.legend button').click()")
        toggled = browser.evaluate(
            "[document.querySelector('.legend button').ariaPressed,"
            " document.querySelectorAll('#hit-rate svg path').length]"
        )
        browser.evaluate(
            f"document.getElementById('entity').value = '{served.dataset.alice_id}';"
            "document.getElementById('search').requestSubmit()"
        )
        browser.evaluate("document.getElementById('list').requestSubmit()")
        browser.evaluate("document.getElementById('examine').click()")
        browser.evaluate("document.getElementById('watch').click()")
        browser.wait_for("document.querySelectorAll('#events tbody tr').length >= 1")
        browser.wait_for("document.querySelectorAll('#keys tbody tr').length >= 1")
        browser.wait_for("document.querySelectorAll('#findings li').length >= 5")
        browser.wait_for("/Neither tier holds|in Redis:/.test(document.getElementById('found').innerText)")
        shown = {}
        for name, pasted in (
            ("a used link", link),
            ("a new link", dashboard_link(served.gunicorn.url, SECRET)),
            ("a header", f"Bearer {ADMIN}"),
        ):
            browser.evaluate(
                "document.getElementById('contact').textContent = '';"
                f"document.getElementById('token').value = {pasted!r};"
                "document.getElementById('login').requestSubmit()"
            )
            browser.wait_for("/Live|link/.test(document.getElementById('contact').textContent)")
            shown[name] = browser.evaluate("document.getElementById('contact').textContent")

        browser.look(width=390, height=844, dark=True)
        dark = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        browser.wait_for("document.documentElement.scrollWidth <= 390")

        browser.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange')); window.hiddenAt = performance.now()"
        )
        browser.wait_for("performance.now() - window.hiddenAt > 500")
        asked_before = len(browser.requests)
        browser.wait_for("performance.now() - window.hiddenAt > 5000")
        asked_while_hidden = len(browser.requests) - asked_before
        complaints = list(browser.complaints)
        log = served.gunicorn.read_log()

        served.gunicorn.stop()
        browser.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        browser.wait_for(
            "/Connection lost. Last update/.test(document.getElementById('contact').textContent)"
        )

    assert address == f"{served.gunicorn.url}{PATH}"
    assert _code(link) not in stored
    assert health == ["2 of 2", "workers healthy"]
    assert len(re.findall(r"\d+\.\d ms", handled)) >= 2
    assert at_crosshair[:2] == [4, 1]
    assert re.fullmatch(r"at \d\d:\d\d:\d\d", at_crosshair[2])
    assert toggled == ["false", 2]
    assert shown["a used link"].startswith("This link has expired or was already used.")
    assert shown["a new link"].startswith("Live, ")
    assert shown["a header"].startswith("Live, ")
    assert (unnamed, unreachable) == (0, 0)
    assert asked_while_hidden == 0
    assert light != dark
    assert [text for text in complaints if "401" not in text] == []  # the used link's, which is meant
    assert {re.sub(r"(?<=\d)/.*", "", asked) for asked in browser.requests if asked != "data:,"} == {
        served.gunicorn.url
    }
    assert not any(secret in log for secret in (_code(link), "eyJ"))
