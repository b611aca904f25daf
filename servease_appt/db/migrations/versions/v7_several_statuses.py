"""Let the kept counts give the pages of several statuses together: version 4 creates these functions now."""

from servease_appt.db.online import OnlineSteps

revision = "v7"
down_revision = "v6"


def upgrade(steps: OnlineSteps) -> None:
    pass
