"""`cache warm`: fetch what the coming appointments need, before their readers come."""

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
from servease_appt.cli.cache.session import Access, opened
from servease_appt.cli.cache.tables import Cell, batches, counted, echo_json, json_option, table
from servease_appt.clients.service_token import ServiceToken
from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.references.enrichment import Lookups
from servease_appt.references.entities import ENTITIES, Reference
from servease_appt.scheduling.clock import today

FETCHED, THERE, NONE, FAILED = "fetched", "there already", "none exists", "failed"


@dataclass(slots=True)
class Warmth:
    """What has come of it so far: keys by entity and outcome; the services' refusals, by entity."""

    wanted: int
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    denied: dict[str, int] = field(default_factory=dict)

    def count(self, key: str, outcome: str) -> None:
        """One key is done."""
        self.outcomes.setdefault(key.partition("_")[0], Counter())[outcome] += 1

    def total(self, *outcomes: str) -> int:
        """How many keys came out like that; all that are done where none is named."""
        counts = self.outcomes.values()
        return sum(
            n for count in counts for outcome, n in count.items() if outcome in outcomes or not outcomes
        )

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "wanted": self.wanted,
            "done": self.total(),
            "entities": {
                entity: {name.replace(" ", "_"): counts[name] for name in (FETCHED, THERE, NONE, FAILED)}
                for entity, counts in self.outcomes.items()
            },
            "denied": self.denied,
        }

    def as_text(self) -> str:
        """For people."""
        if not self.wanted:
            return "Nothing to warm: no open appointment from today on."
        headers = ("ENTITY", "FETCHED", "THERE ALREADY", "NONE EXISTS", "FAILED")
        rows: list[tuple[Cell, ...]] = [
            (entity, *(counts[name] for name in (FETCHED, THERE, NONE, FAILED)))
            for entity, counts in sorted(self.outcomes.items())
        ]
        lines = [table(headers, rows)]
        lines += [
            f"The {entity} service refused this service's own token {n:,} times (401 or 403)."
            for entity, n in self.denied.items()
        ]
        return "\n".join(lines)


@click.command("warm")
@click.option("--entity", type=click.Choice(ENTITIES), help="Only this one; all three without it.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, those most needed first.")
@json_option
@with_appcontext
def warm_command(entity: str | None, limit: int | None, as_json: bool) -> None:
    """Fetch into Redis what the open appointments from today on refer to, most needed first.

    What is there already is skipped, so it may be stopped by Ctrl-C and run again. The services are asked with
    this service's own token, side by side, and never more at once than one worker does. Exit code 1 when
    nothing could be fetched.

    \b
    Examples:
      flask --app wsgi cache warm
      flask --app wsgi cache warm --entity vehicle --limit 500
    """
    with opened() as access:
        access.client.ping()
        container = access.container
        day = today(datetime.now(UTC), container.settings.business_timezone)
        try:
            from servease_appt.cli.cache.warm_candidates import keys_needed

            keys = keys_needed(container.database, [entity] if entity else list(ENTITIES), day, limit)
        except DatabaseUnavailable as error:
            raise click.ClickException(f"{error}. `cache doctor` tells more.") from error
        warmth = Warmth(len(keys))
        stopped = False
        try:
            with _progress(len(keys), quiet=as_json) as advance:
                warm(access, keys, warmth, advance)
        except KeyboardInterrupt:
            stopped = True
    echo_json(warmth.as_json()) if as_json else click.echo(warmth.as_text())
    if stopped:
        raise click.ClickException(
            f"Stopped after {warmth.total():,} of {len(keys):,}. Run it again to go on."
        )
    if keys and not warmth.total(FETCHED, THERE, NONE):
        raise click.ClickException("Nothing could be fetched. `cache doctor` tells how the services are.")


def warm(access: Access, keys: list[str], warmth: Warmth, advance: Callable[[int], None]) -> None:
    """Read all keys through the cache, in batches as large as what one worker loads at once.

    Raises:
        CacheUnavailable: Redis went away, so that nothing would be kept.
    """
    cache = access.cache
    token = ServiceToken(access.settings.secret_key)
    lookups = Lookups(cache, access.container.upstreams, service_token=token)
    try:
        for batch in batches(keys, cache.policy.max_loads):
            lookup = lookups.warm(batch, None)
            if cache.breaker.state is not BreakerState.CLOSED:
                raise CacheUnavailable(f"went away after {warmth.total():,} of {len(keys):,}; run this again")
            for key, outcome in _outcomes(access, lookup):
                warmth.count(key, outcome)
            advance(len(batch))
    finally:
        warmth.denied = {
            entity: n for entity in ENTITIES if (n := access.counts.get(Tier.UPSTREAM, Event.DENIED, entity))
        }


def _outcomes(access: Access, lookup: Lookup[Reference]) -> Iterable[tuple[str, str]]:
    unknown = [key for key in lookup.values if lookup.sources.get(key) is Source.UNKNOWN]
    absent = _remembered_as_absent(access, unknown)
    for key in lookup.values:
        match lookup.sources.get(key):
            case Source.UPSTREAM:
                yield key, FETCHED
            case Source.UNKNOWN if key in absent:
                yield key, NONE
            case Source.UNKNOWN | Source.STALE:
                yield key, FAILED
            case _:
                yield key, THERE


def _remembered_as_absent(access: Access, keys: list[str]) -> set[str]:
    """Which of the keys are unknown because their service said so, rather than because it failed."""
    if not keys:
        return set()
    with access.client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.exists(access.keys.absent(key))
        there = cast("list[int]", pipeline.execute())
    return {key for key, n in zip(keys, there, strict=True) if n}


@contextmanager
def _progress(length: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, a line now and then elsewhere; both on standard error."""
    if quiet or not length:
        yield lambda _n: None
    elif sys.stderr.isatty():
        with click.progressbar(length=length, label="Warming", show_pos=True, file=sys.stderr) as bar:
            yield bar.update
    else:
        yield _Lines(length).advance


class _Lines:
    """Progress for a log file: a line for every tenth."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._done = 0
        click.echo(f"Warming {counted(length, 'key')}.", err=True)

    def advance(self, n: int) -> None:
        before, self._done = self._done, self._done + n
        if before * 10 // self._length != self._done * 10 // self._length:
            click.echo(f"{self._done:,} of {self._length:,}", err=True)
