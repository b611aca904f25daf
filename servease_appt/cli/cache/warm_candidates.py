"""Which customers, vehicles and employees the open appointments from today on refer to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from sqlalchemy import func, literal, select, union_all

from servease_appt.db.engine import Database
from servease_appt.db.models import Appointment
from servease_appt.references.entities import CUSTOMER, EMPLOYEE, VEHICLE
from servease_appt.scheduling.statuses import OPEN

_COLUMNS = {
    CUSTOMER: Appointment.customer_id,
    VEHICLE: Appointment.vehicle_id,
    EMPLOYEE: Appointment.assigned_employee_id,
}


def keys_needed(database: Database, entities: Sequence[str], from_day: date, limit: int | None) -> list[str]:
    """Cache keys, those that most appointments need first, and of these the soonest.

    Raises:
        DatabaseUnavailable: PostgreSQL is away.
    """
    wanted = [
        select(
            literal(entity).label("entity"),
            _COLUMNS[entity].label("id"),
            func.count().label("uses"),
            func.min(Appointment.scheduled_date).label("soonest"),
        )
        .where(Appointment.status.in_(sorted(OPEN)), Appointment.scheduled_date >= from_day)
        .where(_COLUMNS[entity].is_not(None))
        .group_by(_COLUMNS[entity])
        for entity in entities
    ]
    found = union_all(*wanted).subquery()
    query = (
        select(found.c.entity, found.c.id)
        .order_by(found.c.uses.desc(), found.c.soonest, found.c.entity, found.c.id)
        .limit(limit)
    )
    with database.reading() as connection:
        return [f"{entity}_{id_}" for entity, id_ in connection.execute(query)]
