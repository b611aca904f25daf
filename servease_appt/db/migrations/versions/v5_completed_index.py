"""Find what was completed on a day without walking over all appointments."""

from alembic import op

revision = "v5"
down_revision = "v4"


def upgrade() -> None:
    op.execute(
        "CREATE INDEX IF NOT EXISTS appointments_completed_idx ON appointments (completed_at)"
        " WHERE completed_at IS NOT NULL"
    )
