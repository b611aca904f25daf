"""`cache warm`: load the names that upcoming appointments need, before pages ask for them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import click
from flask.cli import with_appcontext

from servease_appt.cache import CacheUnavailable, Event, Lookup, Source, Tier
from servease_appt.cache.breaker import BreakerState
from servease_appt.cli.cache.naming import entity_option
from servease_appt.cli.cache.session import open_session
from servease_appt.cli.cache.tables import Cell, batches, counted, echo_json, json_option, table
from servease_appt.cli.failures import database_failure
from servease_appt.clients.service_token import ServiceToken
from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.inspection.session import OperatorSession
from servease_appt.references.enrichment import Lookups
from servease_appt.references.entities import ENTITIES, Reference
from servease_appt.scheduling.clock import today

FETCHED, PRESENT, ABSENT, FAILED = "fetched", "there_already", "none_exists", "failed"
OUTCOMES = (FETCHED, PRESENT, ABSENT, FAILED)


@dataclass(slots=True)
class WarmReport:
    """The progress so far.

    Attributes:
        wanted: How many keys there are to warm.
        outcomes: Keys by entity and outcome.
        denied: How often each entity's service answered 401 or 403.
    """

    wanted: int
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    denied: dict[str, int] = field(default_factory=dict)

    def count(self, key: str, outcome: str) -> None:
        """Count one key."""
        self.outcomes.setdefault(key.partition("_")[0], Counter())[outcome] += 1

    def total(self, *outcomes: str) -> int:
        """Return how many keys had one of these outcomes; all keys that are done where none is given."""
        counts = self.outcomes.values()
        return sum(
            n for count in counts for outcome, n in count.items() if outcome in outcomes or not outcomes
        )

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        return {
            "wanted": self.wanted,
            "done": self.total(),
            "entities": {
                entity: {outcome: counts[outcome] for outcome in OUTCOMES}
                for entity, counts in self.outcomes.items()
            },
            "denied": self.denied,
        }

    def as_text(self) -> str:
        """Return the text for people."""
        if not self.wanted:
            return "Nothing to warm: no open appointment from today on."
        headers = ("ENTITY", "FETCHED", "ALREADY CACHED", "NOT FOUND", "FAILED")
        rows: list[tuple[Cell, ...]] = [
            (entity, *(counts[outcome] for outcome in OUTCOMES))
            for entity, counts in sorted(self.outcomes.items())
        ]
        lines = [table(headers, rows)]
        lines += [
            f"The {entity} service rejected this service's own token {counted(n, 'time')} (401 or 403)."
            for entity, n in self.denied.items()
        ]
        return "\n".join(lines)


@click.command("warm", short_help="Load what upcoming appointments need.")
@entity_option("Only this entity; without it all of them.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many keys, the most used first.")
@json_option
@with_appcontext
def warm_command(entity: str | None, limit: int | None, as_json: bool) -> None:
    """Load into Redis what the open appointments from today on refer to, the most used first.

    Keys that are cached already are skipped, so the command may be stopped with Ctrl-C and run again. Calls use
    this service's own token and run in parallel, never more at once than in one worker. FAILED counts what a
    service did not give and what Redis did not store. Exit code 1 when every key failed.

    \b
    Examples:
      flask --app wsgi cache warm
      flask --app wsgi cache warm --entity vehicle --limit 500
    """
    with open_session() as session:
        session.client.ping()
        container = session.container
        day = today(datetime.now(UTC), container.settings.business_timezone)
        try:
            from servease_appt.inspection.warm_candidates import keys_needed

            keys = keys_needed(container.database, [entity] if entity else list(ENTITIES), day, limit)
        except DatabaseUnavailable as error:
            raise click.ClickException(database_failure(session.settings, error)) from error
        report = WarmReport(len(keys))
        stopped = False
        try:
            with _progress(len(keys), quiet=as_json) as advance:
                warm(session, keys, report, advance)
        except KeyboardInterrupt:
            stopped = True
    echo_json(report.as_json()) if as_json else click.echo(report.as_text())
    if stopped:
        raise click.ClickException(
            f"Stopped after {report.total():,} of {len(keys):,} keys. Run it again to continue."
        )
    if keys and not report.total(FETCHED, PRESENT, ABSENT):
        raise click.ClickException(
            "Nothing could be loaded and stored. Run `cache doctor` to check Redis and the services."
        )


def warm(
    session: OperatorSession, keys: list[str], report: WarmReport, advance: Callable[[int], None]
) -> None:
    """Read all keys through the cache, in batches as large as what one worker loads at once.

    Raises:
        CacheUnavailable: Redis stopped answering, so that nothing would be stored.
    """
    cache = session.cache
    token = ServiceToken(session.settings.secret_key)
    lookups = Lookups(cache, session.container.upstreams, service_token=token)
    try:
        for batch in batches(keys, cache.policy.max_loads):
            lookup = lookups.warm(batch, None)
            if cache.breaker.state is not BreakerState.CLOSED:
                raise CacheUnavailable(
                    f"Redis stopped answering after {report.total():,} of {len(keys):,} keys; run this again"
                )
            for key, outcome in _outcomes(session, lookup):
                report.count(key, outcome)
            advance(len(batch))
    finally:
        report.denied = {
            entity: n for entity in ENTITIES if (n := session.counts.get(Tier.UPSTREAM, Event.DENIED, entity))
        }


def _outcomes(session: OperatorSession, lookup: Lookup[Reference]) -> Iterable[tuple[str, str]]:
    unknown = [key for key in lookup.values if lookup.sources.get(key) is Source.UNKNOWN]
    fetched = [key for key in lookup.values if lookup.sources.get(key) is Source.UPSTREAM]
    absent = _in_redis(session, unknown, session.keys.absent)
    stored = _in_redis(session, fetched, session.keys.data)
    for key in lookup.values:
        match lookup.sources.get(key):
            case Source.UPSTREAM if key in stored:
                yield key, FETCHED
            case Source.UNKNOWN if key in absent:
                yield key, ABSENT
            case Source.UPSTREAM | Source.UNKNOWN | Source.STALE:
                yield key, FAILED
            case _:
                yield key, PRESENT


def _in_redis(session: OperatorSession, keys: list[str], key_in_redis: Callable[[str], str]) -> set[str]:
    """Return the keys whose key in Redis exists: a full or read-only server has stored nothing."""
    if not keys:
        return set()
    with session.client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.exists(key_in_redis(key))
        there = cast("list[int]", pipeline.execute())
    return {key for key, n in zip(keys, there, strict=True) if n}


@contextmanager
def _progress(length: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, else a line per tenth; both on standard error."""
    if quiet or not length:
        yield lambda _n: None
    elif sys.stderr.isatty():
        with click.progressbar(length=length, label="Warming", show_pos=True, file=sys.stderr) as bar:
            yield bar.update
    else:
        yield _Lines(length).advance


class _Lines:
    """Progress for a log file: one line per tenth."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._done = 0
        click.echo(f"Warming {counted(length, 'key')}.", err=True)

    def advance(self, n: int) -> None:
        before, self._done = self._done, self._done + n
        if before * 10 // self._length != self._done * 10 // self._length:
            click.echo(f"{self._done:,} of {self._length:,}", err=True)
