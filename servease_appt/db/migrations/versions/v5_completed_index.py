"""Add an index to find the appointments completed on a day without reading all appointments."""

from servease_appt.db.online import OnlineSteps

revision = "v5"
down_revision = "v4"


def upgrade(steps: OnlineSteps) -> None:
    steps.index("appointments_completed_idx", "appointments (completed_at) WHERE completed_at IS NOT NULL")
