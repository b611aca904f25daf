"""Each alert is silent on a healthy service and fires on its fault, whatever the scrape interval.

Prometheus' own `promtool` evaluates the rules over scrapes that do not fall together with the evaluations.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring/alerts.yml"
PROMTOOL = shutil.which("promtool")
EVALUATE_EVERY_S = 15
SLOT_S = 5
FIRST_SCRAPE_S = 5
"""Not a multiple of the evaluation interval: evaluations see samples that are 10 s old and more."""

Value = Callable[[int], float | None]
"""What is exported so many seconds after the start; None for a target that does not answer."""


def rate(per_second: float) -> Value:
    """A counter that grows evenly."""
    return lambda t: per_second * t


def always(value: float) -> Value:
    """A gauge, or a counter on which nothing happens."""
    return lambda _t: value


def _histogram(name: str, labels: str, per_second: float, slow_share: float = 0.0) -> dict[str, Value]:
    """Fast observations (below 10 ms), and a share of slow ones (0.5 to 1 s)."""
    fast = per_second * (1 - slow_share)
    buckets = {"0.01": fast, "0.025": fast, "0.25": fast, "0.5": fast, "1": per_second, "+Inf": per_second}
    found = {f'{name}_bucket{{{labels},le="{end}"}}': rate(n) for end, n in buckets.items()}
    return {**found, f"{name}_count{{{labels}}}": rate(per_second)}


def _event(tier: str, event: str, entity: str = "-") -> str:
    return f'servease_cache_events_total{{tier="{tier}",event="{event}",entity="{entity}"}}'


LIST = 'endpoint="list_appointments",method="GET"'
HEARD_AT = 'servease_cache_channel_last_answer_timestamp_seconds{channel="invalidations"}'
OLDEST_EVENT = 'servease_event_backlog_oldest_timestamp_seconds{stream="events"}'
HEALTHY: Mapping[str, Value] = {
    'servease_build_info{version="1"}': always(1),
    **_histogram("servease_http_request_duration_seconds", f'{LIST},status="200"', 20),
    **_histogram("servease_redis_operation_duration_seconds", 'operation="mget",outcome="ok"', 20),
    **_histogram("servease_upstream_call_duration_seconds", 'entity="customer",outcome="ok"', 2),
    **{f'servease_cache_mode{{mode="{m}"}}': always(n) for m, n in (("both", 2), ("l2_only", 0))},
    **{
        f'servease_breaker_state{{breaker="customer",state="{state}"}}': always(n)
        for state, n in (("closed", 2), ("open", 0), ("half_open", 0))
    },
    'servease_breaker_transitions_total{breaker="customer",state="open"}': always(0),
    **{
        f'servease_cache_references_total{{endpoint="list_appointments",source="{source}"}}': rate(n)
        for source, n in (("l1", 300), ("l2", 60), ("upstream", 40))
    },
    **{_event("channel", event): always(0) for event in ("gap", "unreadable")},
    _event("l2", "failed_invalidation"): always(0),
    _event("l1", "eviction", "customer"): always(0),
    **{
        f'servease_cache_coherence_{kind}_total{{tiers="{tiers}"}}': value
        for tiers in ("l1_l2", "l2_source")
        for kind, value in (("checks", rate(1)), ("mismatches", always(0)))
    },
    'servease_unchecked_bookings_total{reference="customer"}': always(0),
    HEARD_AT: lambda t: t - 0.4,
    OLDEST_EVENT: lambda t: t - 0.4,
}

FAULTS: Mapping[str, Mapping[str, Value]] = {
    "AppointmentServiceGone": {name: lambda _t: None for name in HEALTHY},
    "AppointmentErrors": {
        f'servease_http_request_duration_seconds_count{{{LIST},status="500"}}': rate(1),
    },
    "AppointmentListSlow": _histogram(
        "servease_http_request_duration_seconds", f'{LIST},status="200"', 20, slow_share=0.1
    ),
    "CacheDegraded": {'servease_cache_mode{mode="l1_only"}': always(2)},
    "CacheChannelSilent": {HEARD_AT: lambda t: min(t, 300) - 0.4},
    "BreakerOpen": {'servease_breaker_state{breaker="customer",state="open"}': always(1)},
    "BreakerFlapping": {
        'servease_breaker_transitions_total{breaker="customer",state="open"}': rate(1 / 30),
    },
    "InvalidationsFailed": {_event("l2", "failed_invalidation"): rate(0.1)},
    "RedisRefuses": {
        'servease_redis_operation_duration_seconds_count{operation="fill",outcome="refused"}': rate(0.1),
    },
    "MessagesLost": {_event("channel", "gap"): rate(0.02)},
    "MessagesUnreadable": {_event("channel", "unreadable"): rate(0.02)},
    "TiersDisagree": {'servease_cache_coherence_mismatches_total{tiers="l1_l2"}': rate(0.01)},
    "ChangesNotAnnounced": {'servease_cache_coherence_mismatches_total{tiers="l2_source"}': rate(0.1)},
    "CacheHitRateLow": {
        'servease_cache_references_total{endpoint="list_appointments",source="upstream"}': rate(400),
    },
    "CacheTooSmall": {_event("l1", "eviction", "customer"): rate(5)},
    "RedisSlow": _histogram(
        "servease_redis_operation_duration_seconds", 'operation="mget",outcome="ok"', 20, slow_share=0.1
    ),
    "UpstreamFailing": {
        'servease_upstream_call_duration_seconds_count{entity="customer",outcome="error"}': rate(1),
    },
    "BookingEventsWaiting": {OLDEST_EVENT: lambda t: min(t, 300) - 0.4},
    "BookedUnchecked": {'servease_unchecked_bookings_total{reference="customer"}': rate(0.01)},
}


def _scraped(value: Value, every_s: int, for_s: int) -> str:
    """The values slot by slot, as promtool reads them: `_` where nothing was scraped."""
    found = []
    for t in range(0, for_s, SLOT_S):
        exported = value(t) if t % every_s == FIRST_SCRAPE_S % every_s else None
        found.append("_" if exported is None else f"{exported:.4f}")
    return " ".join(found)


def _test(name: str, series: Mapping[str, Value], every_s: int, for_s: int, firing: str | None) -> object:
    """One of promtool's tests: what fires at its end, or that nothing ever does."""
    checks: list[dict[str, object]]
    if firing is None:
        checks = [
            {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{at}s", "exp_samples": []}
            for at in range(60, for_s, 60)
        ]
    else:
        checks = [
            {
                "expr": f'count(ALERTS{{alertname="{firing}",alertstate="firing"}}) > bool 0',
                "eval_time": f"{for_s - SLOT_S}s",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ]
    return {
        "name": name,
        "interval": f"{SLOT_S}s",
        "input_series": [
            {"series": name, "values": _scraped(value, every_s, for_s)} for name, value in series.items()
        ],
        "promql_expr_test": checks,
    }


def test_every_alert_has_a_fault() -> None:
    """A new rule needs a series on which it fires."""
    assert set(re.findall(r"- alert: (\w+)", RULES.read_text())) == set(FAULTS)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: apt-get install prometheus)")
@pytest.mark.parametrize("every_s", [5, 15, 30, 60])
def test_alerts_fire_on_their_fault_alone(every_s: int, tmp_path: Path) -> None:
    """Silent for half an hour of a healthy service; firing once the fault has lasted for long enough."""
    tests = [_test("healthy", HEALTHY, every_s, 30 * 60, None)]
    for alert, fault in FAULTS.items():
        for_s = 65 * 60 if alert == "ChangesNotAnnounced" else 20 * 60
        tests.append(_test(alert, {**HEALTHY, **fault}, every_s, for_s, alert))
    given = tmp_path / "tests.yml"
    content = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{EVALUATE_EVERY_S}s",
        "tests": tests,
    }
    given.write_text(json.dumps(content))  # which is YAML as well

    done = subprocess.run(
        [PROMTOOL or "", "test", "rules", given], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
