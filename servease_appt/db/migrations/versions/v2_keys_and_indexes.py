"""Create the table of idempotency keys, and an index for every order and filter of the service's reads.

Each list is read in the order (scheduled_date, scheduled_time) descending, id ascending. The indexes have exactly
these columns after the column of their filter, so that a page can be found by its first row as well as by its
number. Django's indexes stay. The index by status also finds appointments that run in a range of days: for those
of a day at most, searching one day back is enough. `appointments_long_open_idx` has the few that take longer.
"""

from servease_appt.db.online import OnlineSteps

revision = "v2"
down_revision = "v1"

_LIST_ORDER = "scheduled_date DESC, scheduled_time DESC, id"
_OPEN = "status IN ('pending', 'confirmed', 'in_progress')"
INDEXES = {
    "appointments_listed_idx": f"appointments ({_LIST_ORDER})",
    "appointments_customer_listed_idx": f"appointments (customer_id, {_LIST_ORDER})",
    "appointments_employee_listed_idx": f"appointments (assigned_employee_id, {_LIST_ORDER})",
    "appointments_vehicle_listed_idx": f"appointments (vehicle_id, {_LIST_ORDER})",
    "appointments_status_listed_idx": f"appointments (status, {_LIST_ORDER})",
    "appointments_long_open_idx": (
        f"appointments (scheduled_date) WHERE {_OPEN} AND duration_minutes > 1440"
    ),
    "appointment_history_listed_idx": "appointment_history (changed_at DESC, id)",
    "appointment_history_of_appointment_idx": "appointment_history (appointment_id, changed_at DESC, id)",
    "idempotency_keys_expires_idx": "idempotency_keys (expires_at)",
}


def upgrade(steps: OnlineSteps) -> None:
    if not steps.exists("idempotency_keys"):
        steps.run("""
            CREATE TABLE idempotency_keys (
                user_id uuid NOT NULL,
                key varchar(255) NOT NULL,
                fingerprint varchar(64) NOT NULL,
                holder uuid NOT NULL,
                leased_until timestamptz NOT NULL,
                expires_at timestamptz NOT NULL,
                appointment_id uuid,
                answer_status integer,
                answer_body text,
                answer_headers json,
                PRIMARY KEY (user_id, key)
            )
        """)
    for name, definition in INDEXES.items():
        steps.index(name, definition)
