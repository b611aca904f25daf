"""Which customers, vehicles and employees the open appointments from today on refer to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from sqlalchemy import func, literal, select, union_all

from servease_appt.db.engine import Database
from servease_appt.db.models import Appointment
from servease_appt.references.entities import ENTITIES
from servease_appt.scheduling.statuses import OPEN


def keys_needed(database: Database, entities: Iterable[str], from_day: date, limit: int | None) -> list[str]:
    """Return cache keys: those that most appointments refer to first, of these the soonest.

    Args:
        database: Where the appointments are.
        entities: Which entities' keys are wanted.
        from_day: The first day that counts.
        limit: How many keys at most; None for all.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer, or has no such tables.
    """
    wanted = []
    for entity in entities:
        column = getattr(Appointment, ENTITIES[entity].appointment_field)
        wanted.append(
            select(
                literal(entity).label("entity"),
                column.label("id"),
                func.count().label("uses"),
                func.min(Appointment.scheduled_date).label("soonest"),
            )
            .where(Appointment.status.in_(sorted(OPEN)), Appointment.scheduled_date >= from_day)
            .where(column.is_not(None))
            .group_by(column)
        )
    found = union_all(*wanted).subquery()
    query = (
        select(found.c.entity, found.c.id)
        .order_by(found.c.uses.desc(), found.c.soonest, found.c.entity, found.c.id)
        .limit(limit)
    )
    with database.reading() as connection:
        return [f"{entity}_{id_}" for entity, id_ in connection.execute(query)]
