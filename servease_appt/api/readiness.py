"""Liveness and readiness of the service."""

from dataclasses import dataclass

import servease_appt
from servease_appt.cache import Mode
from servease_appt.container import Container
from servease_appt.db.errors import DatabaseUnavailable


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be served, and the state of each part in one word.

    Where the database is unavailable, `database_cause` says why; where Redis answers and refuses commands,
    `redis_cause` is its word for it, such as `NOPERM`. With a replica for lists, `replica` is its state.
    """

    status: str
    checks: dict[str, str]

    @property
    def can_serve(self) -> bool:
        """Return whether requests can be served: without the cache they can, without PostgreSQL they can't."""
        return self.status not in ("unavailable", "draining")


def alive() -> dict[str, str]:
    """Return the state "healthy" without a request to any server."""
    return {
        "status": "healthy",
        "service": "appointment-service",
        "version": servease_appt.__version__,
    }


def readiness(container: Container) -> Readiness:
    """Return the state of each part. Takes the deadlines of Redis and PostgreSQL at most, and reads no row."""
    mode = container.lookups.mode()
    refusal = container.lookups.cache.l2.refusals.current
    # Without a confirmed channel the mode is `l2_only` until a read fails, also where Redis does not answer.
    # With a wrong password reads fail although it answers.
    may_answer = mode == Mode.L2_ONLY or refusal is not None
    answers = mode == Mode.BOTH or (may_answer and container.redis_answers())
    checks = {"database": "ok", "redis": "ok" if answers else "unavailable", "cache_mode": mode}
    replica = container.list_reads.replica
    if replica is not None:
        # No part of the status: without it every answer is the same, from the primary.
        checks["replica"] = replica.state
    if answers and refusal is not None:
        checks |= {"redis": "refuses", "redis_cause": refusal.cause}
    if container.lifecycle.draining():
        return Readiness("draining", {**checks, "database": "not asked"})
    try:
        container.database.ping()
    except DatabaseUnavailable as error:
        checks |= {"database": "unavailable", "database_cause": f"{error.cause}: {error}"}
        return Readiness("unavailable", checks)
    return Readiness("ready" if mode == Mode.BOTH and refusal is None else "degraded", checks)
