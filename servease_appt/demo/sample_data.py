"""Fill a migrated database with the demo's appointments."""

import random
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import create_engine, insert, text

from servease_appt.api.openapi_examples import APPOINTMENT, HISTORY_ROW, SLOT
from servease_appt.db.models import Appointment, AppointmentHistory, TimeSlot
from servease_appt.demo.sample_appointments import Schedule, make_schedule
from servease_appt.demo.sample_entities import People, make_people

SEED = 8005


@dataclass(frozen=True, slots=True)
class DemoData:
    """The entities of the three services, and the rows of the database."""

    people: People
    schedule: Schedule

    @classmethod
    def make(cls, now: datetime, timezone: ZoneInfo) -> "DemoData":
        """Make the data for a moment (aware); the same moment gives the same data, down to the ids."""
        rng = random.Random(SEED)
        people = make_people(rng, now.year)
        schedule = make_schedule(rng, people, now, timezone)
        _give_example_ids(schedule)
        return cls(people, schedule)

    def insert(self, database_url: str) -> None:
        """Write the schedule into an empty database that has the service's tables."""
        engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg2://", 1))
        try:
            with engine.begin() as connection:
                connection.execute(insert(TimeSlot), self.schedule.slots)
                connection.execute(insert(Appointment), self.schedule.appointments)
                connection.execute(insert(AppointmentHistory), self.schedule.history)
            with engine.begin() as connection:
                connection.execute(text("ANALYZE"))
        finally:
            engine.dispose()


def _give_example_ids(schedule: Schedule) -> None:
    """Give an appointment, a row of history and a slot the ids that the examples of the OpenAPI document name."""
    pending = next(row for row in reversed(schedule.appointments) if row["status"] == "pending")
    pending["id"] = APPOINTMENT  # pending: no row of history names it
    schedule.history[-1]["id"] = HISTORY_ROW
    schedule.slots[-1]["id"] = SLOT
