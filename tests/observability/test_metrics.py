"""Metrics: right across workers and their deaths, named as is the custom, and nobody's data in a label."""

import json
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Histogram

from servease_appt.observability.metrics import SECONDS
from servease_appt.observability.worker_sums import read_totals
from servease_appt.testing.processes import wait_until
from tests.support.dataset import new_id
from tests.support.served import ADMIN, Served

ROOT = Path(__file__).parents[2]
LIST = "/api/v1/appointments/"
LISTED = (
    r'servease_http_request_duration_seconds_count\{endpoint="list_appointments",method="GET",status="200"\}'
)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def _sum(metrics: dict[str, float], pattern: str) -> float:
    return sum(value for name, value in metrics.items() if re.fullmatch(pattern, name))


def _ask_all_workers(served: Served) -> int:
    """Ask for the list until both workers have answered; how often that was."""
    before = Counter(line["pid"] for line in served.log_lines() if line.get("route") == "list_appointments")
    for asked in range(1, 1000):
        assert served.get(LIST).status == 200
        lines = [line["pid"] for line in served.log_lines() if line.get("route") == "list_appointments"]
        if len(Counter(lines) - before) == 2:
            return asked
    raise AssertionError("one worker answers everything")


def test_any_worker_tells_the_counts_of_all(served: Served) -> None:
    """What two workers have counted is one sum, whichever of them is asked."""
    before = _sum(served.metrics(), LISTED)

    asked = _ask_all_workers(served)

    for _ in range(10):
        assert _sum(served.metrics(), LISTED) == before + asked


def test_counts_outlive_a_killed_worker_and_its_states_do_not(served: Served) -> None:
    """After `kill -9` no counter is smaller, and the dead worker is in no mode."""
    _ask_all_workers(served)
    before = served.metrics()
    assert time.time() - _sum(before, r"servease_cache_channel_last_answer_timestamp_seconds.*") < 30
    victim = served.gunicorn.worker_pids()[0]

    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        """The new worker has told its states: until then the sum is right by chance."""
        pids = served.gunicorn.worker_pids()
        files = [_files(served) / f"gauge_livesum_{pid}.db" for pid in pids]
        told = [file.exists() and b"servease_cache_mode" in file.read_bytes() for file in files]
        return victim not in pids and told == [True, True]

    assert wait_until(replaced, timeout_s=30)
    served.wait_for_metric(r'servease_cache_mode\{mode="both"\}', 2)

    after = served.metrics()
    assert (
        sum(after[f'servease_cache_mode{{mode="{mode}"}}'] for mode in ("l2_only", "l1_only", "direct")) == 0
    )
    counters = [name for name in before if re.match(r"\w+_(total|count|sum|bucket)\b", name)]
    assert counters
    assert [name for name in counters if after[name] < before[name]] == []


def _files(served: Served) -> Path:
    return Path(served.gunicorn.settings["PROMETHEUS_MULTIPROC_DIR"])


def _replace_workers(served: Served) -> None:
    victims = set(served.gunicorn.worker_pids())
    for victim in victims:
        os.kill(victim, signal.SIGTERM)

    def replaced() -> bool:
        pids = set(served.gunicorn.worker_pids())
        return len(pids) == 2 and not pids & victims

    assert wait_until(replaced, timeout_s=30)


def test_the_dead_leave_one_file_a_kind(served: Served) -> None:
    """However many workers have died, there are no more files to read, and nothing they counted is lost."""
    before = _sum(served.metrics(), LISTED)
    asked = _ask_all_workers(served)
    _replace_workers(served)
    served.wait_for_metric(r'servease_cache_mode\{mode="both"\}', 2)

    files = {file.name for file in _files(served).glob("counter_*.db")}

    assert "counter_0.db" in files
    assert len(files) <= 4  # the last to die may have been left to the next, since somebody was reading
    assert _sum(served.metrics(), LISTED) == before + asked


def test_a_file_that_a_worker_has_just_opened_disturbs_nobody(served: Served) -> None:
    """Between opening and beginning its file a starting worker's is empty; the library fails on such a file."""
    for kind in ("counter", "histogram", "gauge_livesum"):
        (_files(served) / f"{kind}_999999999.db").touch()

    assert served.get("/metrics").status == 200
    assert served.get("/api/v1/cache/stats/").status == 200


def test_no_person_and_no_path_becomes_a_label(served: Served) -> None:
    """Ids, tokens, e-mails and paths of the callers add no series, however many there are."""
    series = []
    for round_ in range(2):
        appointment = served.dataset.appointment()
        with served.client() as client:
            for number in range(25):
                client.ask("GET", f"{LIST}{appointment}/")
                client.ask("GET", f"{LIST}{new_id()}/")
                client.ask(f"METHOD{round_}{number}", LIST)
                client.ask("GET", f"/no/such/page/{round_}/{number}?email=eve{number}@example.com")
                client.ask("GET", f"{LIST}?customer_id={new_id()}&page_size={number + 1}")
        series.append({name for name in served.metrics() if name.startswith("servease_http")})

    assert series[0] == series[1]
    values = {value for name in served.metrics() for _, value in LABEL.findall(name)}
    assert [
        value
        for value in values
        if not re.fullmatch(r"[a-z0-9_]{1,30}|GET|POST|[\d.]{1,10}(e-\d\d)?|\+Inf|-", value)
    ] == []
    routes = {dict(LABEL.findall(name))["endpoint"] for name in series[1]}
    assert {"get_appointment", "list_appointments", "unmatched"} <= routes
    assert 'endpoint="unmatched",method="other",status="405"' in "".join(series[1])


def test_hit_rate_by_endpoint(served: Served) -> None:
    """The hit rate is the share of names that neither tier lacked, as the answers' own X-Cache says."""
    before = served.get("/api/v1/cache/stats/").json["all_workers"]["endpoints"].get("get_appointment", {})
    seen: Counter[str] = Counter()
    for _ in range(3):
        appointment = served.dataset.appointment(customer_id=new_id(), vehicle_id=new_id())
        for _ in range(4):
            answer = served.get(f"{LIST}{appointment}/")
            seen.update(
                {name: int(n) for name, n in (part.split("=") for part in answer.headers["X-Cache"].split())}
            )

    found = served.get("/api/v1/cache/stats/").json["all_workers"]["endpoints"]["get_appointment"]

    rate = found.pop("hit_rate")
    total = Counter(found)
    assert total - Counter({name: n for name, n in before.items() if name != "hit_rate"}) == +seen
    assert rate == round((total["l1"] + total["l2"]) / total.total(), 4)


def test_stats_and_metrics_agree(served: Served) -> None:
    """The JSON for people and the text for Prometheus are read by different code and say the same."""
    _ask_all_workers(served)
    stats = served.get("/api/v1/cache/stats/").json["all_workers"]
    metrics = served.metrics()

    events = {
        f'servease_cache_events_total{{entity="{entity}",event="{event}",tier="{tier}"}}': n
        for tier, entities in stats["tiers"].items()
        for entity, counted in entities.items()
        for event, n in counted.items()
        if tier == "l1"
    }
    assert events
    assert {name: metrics[name] for name in events} == events
    assert stats["modes"] == {
        mode: metrics[f'servease_cache_mode{{mode="{mode}"}}'] for mode in stats["modes"]
    }
    assert stats["times"]["redis"]["count"] <= _sum(
        metrics, r"servease_redis_operation_duration_seconds_count.*"
    )
    assert 0 < stats["times"]["http"]["p50_ms"] <= stats["times"]["http"]["p95_ms"]


def test_names_and_units_follow_the_conventions(served: Served) -> None:
    """Every metric has our prefix, a unit or `_total` where it counts, and a help text."""
    text = served.get("/metrics").body.decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))

    assert kinds.keys() == helps.keys()
    for name, kind in kinds.items():
        assert re.fullmatch(r"servease_[a-z0-9_]+", name)
        assert name.endswith("_total") == (kind == "counter"), name
        assert name.endswith("_seconds") == (kind == "histogram" or "timestamp" in name), name


def _expressions() -> list[str]:
    rules = re.findall(r"^ +expr: (.+)$", (ROOT / "monitoring/alerts.yml").read_text(), re.MULTILINE)
    dashboard = json.loads((ROOT / "monitoring/grafana-dashboard.json").read_text())
    return rules + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_rules_and_dashboard_ask_for_what_is_there(served: Served) -> None:
    """Every metric, label and label value in an alert or a panel is exported once there has been traffic.

    The oldest booking event is exported only with a stream; `tests/test_event_stream.py` reads it there.
    """
    exported: dict[str, dict[str, set[str]]] = {}
    served.dataset.appointment()
    served.get(LIST)
    served.dataset.fake_services.customers.rule(status=503, times=1)
    served.dataset.appointment(customer_id=new_id())
    served.get(LIST)
    served.dataset.container.lookups.invalidate("customer", [new_id()])
    served.wait_for_metric(r'servease_cache_events_total\{.*event="invalidation",tier="channel"\}', 2)
    # Which worker answers is the system's choice: one shows the names from L1, the other from L2.
    shown = re.compile(r'servease_cache_references_total\{.*source="(l1|l2)"')

    def both_shown() -> bool:
        served.get(LIST)
        return len({found[1] for found in map(shown.match, served.metrics()) if found}) == 2

    assert wait_until(both_shown, timeout_s=20, interval_s=0.05)
    for name in served.metrics():
        labels = exported.setdefault(name.split("{")[0], {})
        for label, value in LABEL.findall(name):
            labels.setdefault(label, set()).add(value)
    exported.setdefault("servease_event_backlog_oldest_timestamp_seconds", {"stream": {"events"}})
    rare = {"5..", "eviction", "overwritten", "refused_fill", "failed_invalidation", "stale", "refused"}

    expressions = _expressions()

    assert len(expressions) > 40
    for expression in expressions:
        selectors = re.findall(r"(servease_\w+)(?:\{([^}]*)\})?", expression)
        assert selectors, expression
        for name, matchers in selectors:
            assert name in exported, expression
            for label, operator, wanted in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', matchers):
                if label in ("job", "instance"):  # Prometheus' own, chosen in the dashboard
                    assert wanted == f"${label}"
                    continue
                assert label in exported[name], expression
                known = exported[name][label] | rare
                assert operator == "!=" or set(wanted.split("|")) <= known, expression
        known_labels = {label for name, _ in selectors for label in exported[name]}
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            assert set(re.split(r", *", grouped)) <= known_labels, expression


def test_every_panel_has_its_place_and_its_name() -> None:
    """No two panels overlap, and each says what its lines are."""
    dashboard = json.loads((ROOT / "monitoring/grafana-dashboard.json").read_text())
    cells = Counter(
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    )

    assert set(cells.values()) == {1}
    assert all(0 <= x < 24 for x, _ in cells)
    assert all(
        panel["title"] and target["legendFormat"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    )


def test_every_panel_is_described_and_follows_the_choice_of_job_and_instance() -> None:
    """Also where one Prometheus scrapes several installations."""
    dashboard = json.loads((ROOT / "monitoring/grafana-dashboard.json").read_text())
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource", "job", "instance"}
    for panel in dashboard["panels"]:
        assert len(panel["description"]) > 20
        for target in panel["targets"]:
            named = re.findall(r"servease_\w+", target["expr"])
            assert target["expr"].count('job=~"$job",instance=~"$instance"') == len(named)


def test_every_alert_leads_to_what_to_do() -> None:
    """Its link is the section of the guide, and that section names the alert."""
    rules = (ROOT / "monitoring/alerts.yml").read_text()
    alerts, links = re.findall(r"alert: (\w+)", rules), re.findall(r"runbook_url: (\S+)", rules)
    guide = (ROOT / "docs/operations.md").read_text()
    section = guide.partition("\n## At night\n")[2].partition("\n## ")[0]
    assert len(links) == len(alerts) > 10
    assert {link.rpartition("/")[2] for link in links} == {"operations.md#at-night"}
    assert [alert for alert in alerts if f"`{alert}`" not in section] == []


def test_metrics_can_be_turned_off_and_stats_need_a_role(served: Served) -> None:
    """`/metrics` is open, the JSON is for admins and services."""
    assert served.get("/metrics", bearer=None).status == 200
    assert served.get("/api/v1/metrics", bearer=None).status == 200
    assert served.get("/api/v1/cache/stats/", bearer=None).status == 401
    assert served.get("/api/v1/cache/stats/", bearer=ADMIN).status == 200


@pytest.mark.parametrize(("share", "expected"), [(0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)], ids=str)
def test_a_quantile_lies_straight_within_its_bucket(share: float, expected: float) -> None:
    """Four observations in two buckets: quantiles are read off as Prometheus does."""
    registry = CollectorRegistry()
    histogram = Histogram("x_seconds", "X", ["a"], buckets=(1, 2, 3), registry=registry)
    for value in (0.1, 0.2, 1.1, 1.2):
        histogram.labels("here").observe(value)
    histogram.labels("elsewhere").observe(99)

    totals = read_totals(registry)

    assert totals.quantile("x_seconds", share, a="here") == expected
    assert totals.quantile("x_seconds", share, a="nowhere") is None
    assert totals.quantile("x_seconds", share, a="elsewhere") == 3
    assert totals.count("x_seconds") == 5
    assert totals.by("x_seconds_bucket", "a") == {("here",): 4, ("elsewhere",): 1}


def test_a_service_of_50_ms_shows_50_ms() -> None:
    """Where the calls of this platform lie, the buckets are fine: no p95 of 97 ms for a service of 51 to 55."""
    registry = CollectorRegistry()
    histogram = Histogram("x_seconds", "X", buckets=SECONDS, registry=registry)
    for n in range(100):
        histogram.observe(0.0505 + n * 0.00005)

    totals = read_totals(registry)

    p50, p95 = totals.quantile("x_seconds", 0.5), totals.quantile("x_seconds", 0.95)
    assert p50 is not None
    assert p95 is not None
    assert 0.050 < p50 <= p95 <= 0.060
