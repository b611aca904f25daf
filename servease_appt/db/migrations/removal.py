"""Drop everything that the migrations have created, except the platform's tables and columns."""

from typing import Final

from servease_appt.db.migrations import employee_times, events, kept_counts, writer_rules
from servease_appt.db.online import OnlineSteps
from servease_appt.db.versions import VERSION_TABLE

_OUR_INDEXES: Final = (
    "appointments_listed_idx",
    "appointments_customer_listed_idx",
    "appointments_employee_listed_idx",
    "appointments_vehicle_listed_idx",
    "appointments_status_listed_idx",
    "appointments_long_open_idx",
    "appointments_type_listed_idx",
    "appointments_completed_idx",
    "appointment_history_listed_idx",
    "appointment_history_of_appointment_idx",
)
_OUR_CONSTRAINTS: Final = {
    "appointments": (
        "appointments_known_status",
        "appointments_known_type",
        "appointments_duration_in_range",
        "appointments_work_time_not_negative",
        "appointments_cost_not_negative",
    ),
    "time_slots": ("time_slots_end_after_start", "time_slots_capacity_not_negative"),
}


def run(steps: OnlineSteps) -> None:
    """Drop the triggers first and the version last, so that an interrupted run can be continued."""
    writer_rules.remove(steps)
    kept_counts.remove(steps)
    employee_times.remove(steps)
    events.remove(steps)
    for table, names in _OUR_CONSTRAINTS.items():
        if steps.exists(table):
            steps.run(*(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}" for name in names))
    for name in _OUR_INDEXES:
        steps.drop_index(name)
    steps.run(f"DROP TABLE IF EXISTS idempotency_keys, {VERSION_TABLE}")
