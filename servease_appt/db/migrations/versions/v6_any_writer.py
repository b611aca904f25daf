"""Let the tables work with whatever else writes to them, and with any row that they can hold.

* `duration_seconds` has a default, for a platform that does not know the column.
* The times at which employees are busy have a table of their own; see
  `servease_appt.db.migrations.employee_times`.
* The kept numbers take any status, type and date, and follow logical replication: with what version 4 makes now.
"""

from servease_appt.db.migrations import employee_times
from servease_appt.db.online import OnlineSteps

revision = "v6"
down_revision = "v5"

_DEFAULT = (
    "SELECT atthasdef FROM pg_attribute"
    " WHERE attrelid = to_regclass('appointments') AND attname = 'duration_seconds'"
)


def upgrade(steps: OnlineSteps) -> None:
    if steps.query(_DEFAULT) is not True:
        steps.run("ALTER TABLE appointments ALTER COLUMN duration_seconds SET DEFAULT 0")
    employee_times.install(steps)
