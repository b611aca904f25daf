"""`cache invalidate` and `cache clear`: drop values from Redis and every worker, and show who confirmed it."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import click
from flask.cli import with_appcontext

from servease_appt.cache.worker_queries import WorkerQueries
from servease_appt.cli.cache.naming import entities_argument, entity_option, keys_of
from servease_appt.cli.cache.session import open_session
from servease_appt.cli.cache.tables import counted, echo_json, json_option, table
from servease_appt.inspection.session import OperatorSession
from servease_appt.inspection.workers import (
    Acknowledgement,
    query_acknowledgements,
    registered_workers,
    short_name,
)
from servease_appt.references.entities import ENTITIES
from servease_appt.signals import announce, reference_invalidated


@dataclass(frozen=True, slots=True)
class Acknowledgements:
    """Which workers have handled everything that was published before they were queried.

    Attributes:
        answers: What the workers answered.
        silent: Identities of registered workers that did not answer in time.
        listening: How many workers listen on this server, in any database.
    """

    answers: list[Acknowledgement]
    silent: list[str]
    listening: int

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        answers = [asdict(answer) for answer in self.answers]
        return {"handled_by": answers, "silent": self.silent, "listening": self.listening}

    def as_text(self) -> str:
        """Return the text for people."""
        if not self.listening and not self.silent:
            return "No worker listens; only Redis held the values."
        if not self.answers and not self.silent:
            return (
                f"{counted(self.listening, 'worker')} on this server did not answer. Do they use another database"
                " than this shell? Run `cache doctor`."
            )
        lines = []
        if self.answers:
            rows = [(short_name(answer.worker), f"{answer.after_ms:.1f} ms") for answer in self.answers]
            lines.append(table(("WORKER", "HANDLED WITHIN"), rows))
        if self.silent:
            lines.append(
                f"No answer from {', '.join(map(short_name, self.silent))}. A worker that lost its connection"
                " stops serving the old value within 2 s. Run `cache doctor`."
            )
        return "\n".join(lines)


def acknowledgements(queries: WorkerQueries) -> Acknowledgements:
    """Query all workers right after an invalidation: messages keep their order, so an answer proves handling."""
    answers = query_acknowledgements(queries).readable
    answered = {answer.worker for answer in answers}
    silent = sorted(registered_workers(queries).keys() - answered)
    return Acknowledgements(answers, silent, queries.listeners())


@click.command("invalidate", short_help="Drop values from Redis and every worker.")
@entities_argument
@json_option
@with_appcontext
def invalidate_command(words: tuple[str, ...], as_json: bool) -> None:
    """Drop values from Redis, with their stale copies, and from every worker.

    Once this has returned, no fetch that began before it can write an older value. Exit code 1 when Redis refused
    it.

    \b
    Examples:
      flask --app wsgi cache invalidate customer bcee5755-2c9f-4c0a-8720-1592b75edf96
      flask --app wsgi cache invalidate customer UUID UUID vehicle UUID
    """
    with open_session() as session:
        keys = keys_of(words, session.keys)
        dropped = session.cache.invalidate(keys)
        acknowledged = acknowledgements(session.queries)
    _send_signals(keys)
    if as_json:
        echo_json({"invalidated": dropped, "keys": keys, **acknowledged.as_json()})
        return
    click.echo(f"{dropped} invalidated.")
    click.echo(acknowledged.as_text())


def _send_signals(keys: list[str]) -> None:
    """Tell the application's receivers in this process, once for each entity."""
    ids: dict[str, list[str]] = {}
    for key in keys:
        entity, _, id_ = key.partition("_")
        ids.setdefault(entity, []).append(id_)
    for entity, of_entity in ids.items():
        announce(reference_invalidated, entity=entity, ids=tuple(of_entity))


@click.command("clear", short_help="Drop all cached values, or those of one entity.")
@entity_option("Only this entity; without it all of them.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@with_appcontext
def clear_command(entity: str | None, yes: bool, as_json: bool) -> None:
    """Drop everything cached, or all of one entity, from Redis and from every worker.

    Asks for confirmation unless --yes is given. Other keys in the database stay. Afterwards every name is loaded
    from its service again; `cache warm` does that before pages need them.

    \b
    Examples:
      flask --app wsgi cache clear --entity vehicle
      flask --app wsgi cache clear --yes
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(
            "Clearing needs a confirmation and standard input is not a terminal: add --yes."
        )
    with open_session() as session:
        pattern = f"{entity}_*" if entity else "*"
        counts = _counts(session, pattern)
        if not yes:
            question = f"Clear {_what(entity, counts)} in Redis and in every worker?"
            click.confirm(question, abort=True, err=True)
        session.cache.invalidate_matching(pattern)
        acknowledged = acknowledgements(session.queries)
    if as_json:
        echo_json({"cleared": dict(counts), "pattern": pattern, **acknowledged.as_json()})
        return
    click.echo(f"Cleared {_what(entity, counts)}.")
    click.echo(acknowledged.as_text())


def _counts(session: OperatorSession, pattern: str) -> Counter[str]:
    return Counter(session.cache.codecs.name_of(key) for key in set(session.cache.l2.scan(pattern)))


def _what(entity: str | None, counts: Counter[str]) -> str:
    names = [entity] if entity else list(ENTITIES)
    parts = [counted(counts[name], name) for name in names]
    if counts["-"]:
        parts.append(f"{counts['-']:,} other")
    return ", ".join(parts)
