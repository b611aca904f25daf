"""`cache invalidate` and `cache clear`: out of Redis, out of every worker, and the proof of it."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import click
from flask.cli import with_appcontext

from servease_appt.cache.worker_queries import WorkerQueries
from servease_appt.cli.cache.naming import METAVAR, keys_of, short_worker
from servease_appt.cli.cache.session import Access, opened
from servease_appt.cli.cache.tables import counted, echo_json, json_option, table
from servease_appt.references.entities import ENTITIES

ANSWER_S = 1.0


@dataclass(frozen=True, slots=True)
class Heard:
    """Which workers have handled everything that was published before they were asked.

    Attributes:
        answers: `worker`, `pid`, `after_ms` of each.
        silent: identities of registered workers that have not answered in time.
        listening: how many listen on this server, whatever database they use.
    """

    answers: list[dict[str, Any]]
    silent: list[str]
    listening: int

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"handled_by": self.answers, "silent": self.silent, "listening": self.listening}

    def as_text(self) -> str:
        """For people."""
        if not self.listening and not self.silent:
            return "No worker listens: nothing but Redis held it."
        if not self.answers and not self.silent:
            return (
                f"{counted(self.listening, 'worker')} on this server did not answer: do they use another database"
                " than this shell? `cache doctor` tells."
            )
        lines = []
        if self.answers:
            rows = [
                (short_worker(answer["worker"]), f"{answer['after_ms']:.1f} ms") for answer in self.answers
            ]
            lines.append(table(("WORKER", "HANDLED WITHIN"), rows))
        if self.silent:
            lines.append(
                f"No answer from {', '.join(map(short_worker, self.silent))}: gone, or cut off, and then it stops"
                " serving the old value within 2 s. `cache doctor` tells which."
            )
        return "\n".join(lines)


def ask_who_heard(questions: WorkerQueries, timeout_s: float = ANSWER_S) -> Heard:
    """Ask right after an invalidation: messages keep their order, so an answer proves that it was handled."""
    answers = questions.query("heard", timeout_s=timeout_s)
    answered = {answer["worker"] for answer in answers}
    return Heard(answers, sorted(questions.workers().keys() - answered), questions.listeners())


@click.command("invalidate")
@click.argument("words", metavar=METAVAR, nargs=-1, required=True)
@json_option
@with_appcontext
def invalidate_command(words: tuple[str, ...], as_json: bool) -> None:
    """Drop values from Redis, with their last known copies, and from every worker.

    When this returns, no fetch that began before can bring an older value back. Exit code 1 when Redis did not
    take it.

    \b
    Examples:
      flask --app wsgi cache invalidate customer bcee5755-2c9f-4c0a-8720-1592b75edf96
      flask --app wsgi cache invalidate customer UUID UUID vehicle UUID
    """
    with opened() as access:
        keys = keys_of(words, access.keys)
        dropped = access.cache.invalidate(keys)
        heard = ask_who_heard(access.questions)
    if as_json:
        echo_json({"invalidated": dropped, "keys": keys, **heard.as_json()})
        return
    click.echo(f"{dropped} invalidated.")
    click.echo(heard.as_text())


@click.command("clear")
@click.option("--entity", type=click.Choice(ENTITIES), help="Only this one; all three without it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@with_appcontext
def clear_command(entity: str | None, yes: bool, as_json: bool) -> None:
    """Drop everything cached, or all of one entity, from Redis and from every worker.

    Asks before it does, unless told --yes. Other keys in the same database stay. Every name that pages need is
    then fetched anew, which `cache warm` can do before the pages.

    \b
    Examples:
      flask --app wsgi cache clear --entity vehicle
      flask --app wsgi cache clear --yes
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("This asks before it clears, and there is no terminal to ask on: add --yes.")
    with opened() as access:
        pattern = f"{entity}_*" if entity else "*"
        counts = _counts(access, pattern)
        if not yes:
            question = f"Clear {_what(entity, counts)} under {access.keys.prefix}: and in every worker?"
            click.confirm(question, abort=True, err=True)
        access.cache.invalidate_matching(pattern)
        heard = ask_who_heard(access.questions)
    if as_json:
        echo_json({"cleared": dict(counts), "pattern": pattern, **heard.as_json()})
        return
    click.echo(f"Cleared {_what(entity, counts)}.")
    click.echo(heard.as_text())


def _counts(access: Access, pattern: str) -> Counter[str]:
    return Counter(access.cache.codecs.name_of(key) for key in set(access.cache.l2.scan(pattern)))


def _what(entity: str | None, counts: Counter[str]) -> str:
    names = (entity,) if entity else ENTITIES
    parts = [counted(counts[name], name) for name in names]
    if counts["-"]:
        parts.append(f"{counts['-']:,} of no entity")
    return ", ".join(parts)
