"""Add the table of booking events; see `servease_appt.db.migrations.events`.

The kept counts also give the pages of several statuses together: version 4 creates their functions now.
"""

from servease_appt.db.migrations import events
from servease_appt.db.online import OnlineSteps

revision = "v7"
down_revision = "v6"


def upgrade(steps: OnlineSteps) -> None:
    events.install(steps)
