"""The services that own customers, vehicles and employees: do they answer, and do they know what is needed?"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final

from servease_appt.clients import Denied, NotFound, UpstreamError, Upstreams
from servease_appt.clients.service_token import ServiceToken
from servease_appt.container import Container
from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.doctor.findings import Area, Finding
from servease_appt.doctor.texts import counted
from servease_appt.inspection.warm_candidates import keys_needed
from servease_appt.references.entities import ENTITIES, Entity
from servease_appt.scheduling.clock import today

SLOW_SHARE: Final = 0.5
MAX_ASKED: Final = 3

_services = Area("services")


class _Answer(Enum):
    KNOWN = auto()
    UNKNOWN = auto()
    DENIED = auto()


def check_service(container: Container, name: str) -> Iterator[Finding]:
    """Ask one service for ids that upcoming appointments need, or for a random id where there are none.

    Any web server answers 404, so only an id that the service should know tells whether it is the right one.
    """
    entity, settings = ENTITIES[name], container.settings
    url = entity.url(settings)
    token = ServiceToken(settings.secret_key).get()
    needed = _needed_ids(container, name)
    try:
        for id_ in needed or [str(uuid.uuid4())]:
            started_s = time.perf_counter()
            answer = _ask(entity, container.upstreams, id_, token, settings.upstream_timeout_s)
            took_ms = (time.perf_counter() - started_s) * 1000
            if answer is not _Answer.UNKNOWN:
                break
    except UpstreamError as error:
        yield _services.problem(
            f"The {error} ({url}, timeout {settings.upstream_timeout_s:g} s).",
            "A name that is in neither tier is shown from its stale copy, or as a placeholder.",
            f"Check that service, or correct {entity.url_setting}.",
        )
        return
    yield _speed(name, url, took_ms, settings.upstream_timeout_s)
    if answer is _Answer.DENIED:
        yield _denied(name, settings.upstream_auth)
    elif needed and answer is _Answer.UNKNOWN:
        yield _knows_none(name, len(needed))


def _needed_ids(container: Container, entity: str) -> list[str]:
    """Return the ids that most upcoming appointments need; none without appointments or without PostgreSQL."""
    day = today(datetime.now(UTC), container.settings.business_timezone)
    with suppress(DatabaseUnavailable):
        keys = keys_needed(container.database, [entity], day, MAX_ASKED)
        return [key.partition("_")[2] for key in keys]
    return []


def _ask(entity: Entity, upstreams: Upstreams, id_: str, token: str, timeout_s: float) -> _Answer:
    try:
        entity.fetch(upstreams, id_, token, timeout_s)
    except NotFound:
        return _Answer.UNKNOWN
    except Denied:
        return _Answer.DENIED
    return _Answer.KNOWN


def _knows_none(entity: str, asked: int) -> Finding:
    return _services.warning(
        f"It answers 404 for the {counted(asked, entity)} that most upcoming appointments need.",
        "Another program answers at that address, or the service lost them, or hides them from this service's own"
        f" token. Pages show {ENTITIES[entity].placeholder!r} instead.",
        f"Compare {ENTITIES[entity].url_setting} with the {entity} service's address, and request one of them.",
    )


def _speed(entity: str, url: str, took_ms: float, timeout_s: float) -> Finding:
    says = f"The {entity} service at {url} answers in {took_ms:.0f} ms."
    if took_ms > SLOW_SHARE * timeout_s * 1000:
        return _services.warning(
            says,
            f"Close to UPSTREAM_TIMEOUT={timeout_s:g}: first reads are slow, and some fail.",
            "Check the load of that service.",
        )
    return _services.ok(says)


def _denied(entity: str, upstream_auth: str) -> Finding:
    says = f"The {entity} service rejects this service's own token (401 or 403)."
    do = "Let that service accept the role `service`, and compare SECRET_KEY on both sides."
    if upstream_auth == "service":
        return _services.problem(
            says, f"UPSTREAM_AUTH=service needs it: every {entity} is shown as a placeholder.", do
        )
    return _services.note(says, "`cache warm` needs it; pages send the token of their reader.", do)
