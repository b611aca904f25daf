"""Support any other writer of the tables, and any row that they can hold.

* `duration_seconds` has a default, for a platform without the column.
* The times at which employees are busy are in a separate table; see
  `servease_appt.db.migrations.employee_times`.
* The kept counts accept any status, type and date, and follow logical replication: version 4 creates this now.
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
