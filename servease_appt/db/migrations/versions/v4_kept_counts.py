"""Add the counts for the pages of the list; see `servease_appt.db.migrations.kept_counts`."""

from servease_appt.db.migrations import kept_counts
from servease_appt.db.online import OnlineSteps

revision = "v4"
down_revision = "v3"


def upgrade(steps: OnlineSteps) -> None:
    steps.index(
        "appointments_type_listed_idx",
        "appointments (appointment_type, scheduled_date DESC, scheduled_time DESC, id)",
    )
    kept_counts.install(steps)
