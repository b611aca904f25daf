"""The tables as SQLAlchemy models.

The first three are the platform's: Django made them without defaults in the database, so every insert sets every
column. Constraints and indexes are only in the migrations, where they can depend on the rows of an adopted
database.
"""

from datetime import date, datetime, time
from decimal import Decimal

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import TSRANGE
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_UUID = Uuid(as_uuid=False)
_MOMENT = DateTime(timezone=True)


class Base(DeclarativeBase):
    """The metadata of this service's tables."""


class Appointment(Base):
    """One appointment; its date and time are wall-clock time in the business time zone."""

    __tablename__ = "appointments"

    id: Mapped[str] = mapped_column(_UUID, primary_key=True)
    customer_id: Mapped[str] = mapped_column(_UUID)
    vehicle_id: Mapped[str] = mapped_column(_UUID)
    assigned_employee_id: Mapped[str | None] = mapped_column(_UUID)
    appointment_type: Mapped[str] = mapped_column(String(50))
    scheduled_date: Mapped[date]
    scheduled_time: Mapped[time]
    duration_minutes: Mapped[int]
    status: Mapped[str] = mapped_column(String(20))
    service_description: Mapped[str] = mapped_column(Text)
    customer_notes: Mapped[str] = mapped_column(Text)
    internal_notes: Mapped[str] = mapped_column(Text)
    estimated_cost: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    duration_seconds: Mapped[int]
    created_by_user_id: Mapped[str] = mapped_column(_UUID)
    created_at: Mapped[datetime] = mapped_column(_MOMENT)
    updated_at: Mapped[datetime] = mapped_column(_MOMENT)
    cancelled_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    completed_at: Mapped[datetime | None] = mapped_column(_MOMENT)


class TimeSlot(Base):
    """A part of a day with its own capacity; an end of 00:00 is midnight at the end of the day."""

    __tablename__ = "time_slots"

    id: Mapped[str] = mapped_column(_UUID, primary_key=True)
    date: Mapped[date]
    start_time: Mapped[time]
    end_time: Mapped[time]
    is_available: Mapped[bool]
    max_concurrent_appointments: Mapped[int]


class AppointmentHistory(Base):
    """An accepted change. It outlives its appointment, so it has no foreign key to it."""

    __tablename__ = "appointment_history"

    id: Mapped[str] = mapped_column(_UUID, primary_key=True)
    appointment_id: Mapped[str] = mapped_column(_UUID)
    changed_by_user_id: Mapped[str] = mapped_column(_UUID)
    previous_status: Mapped[str] = mapped_column(String(20))
    new_status: Mapped[str] = mapped_column(String(20))
    change_reason: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(_MOMENT)


class IdempotencyKey(Base):
    """An idempotency key of a user's request, its holder and the stored answer."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[str] = mapped_column(_UUID, primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    holder: Mapped[str] = mapped_column(_UUID)
    leased_until: Mapped[datetime] = mapped_column(_MOMENT)
    expires_at: Mapped[datetime] = mapped_column(_MOMENT)
    appointment_id: Mapped[str | None] = mapped_column(_UUID)
    answer_status: Mapped[int | None]
    answer_body: Mapped[str | None] = mapped_column(Text)
    answer_headers: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))


# Written only by triggers.

Table(
    "appointment_counts",
    Base.metadata,
    Column("level", SmallInteger, primary_key=True),
    Column("status", Text, primary_key=True),
    Column("appointment_type", Text, primary_key=True),
    Column("bucket", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
    comment="Appointments in each 32 ^ level days since 2000-01-01, by status and type; * stands for all",
)
Table(
    "appointment_count_changes",
    Base.metadata,
    Column("day", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("appointment_type", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    comment="What has yet to be added to appointment_counts",
)
Table(
    "appointment_employee_times",
    Base.metadata,
    Column("appointment_id", _UUID, primary_key=True),
    Column("employee_id", _UUID, nullable=False),
    Column("during", TSRANGE, nullable=False),
    comment="When employees are busy",
)
Table(
    "appointment_events",
    Base.metadata,
    Column("id", BigInteger, primary_key=True),
    Column("number", BigInteger),
    Column("published_at", _MOMENT),
    Column("occurred_at", _MOMENT, nullable=False),
    Column("event", Text, nullable=False),
    Column("appointment_id", _UUID, nullable=False),
    Column("customer_id", _UUID),
    Column("status", Text),
    comment="Changes of appointments; number and published_at follow the commit",
)
Table(
    "appointment_events_state",
    Base.metadata,
    Column("only_row", Boolean, primary_key=True),
    Column("last_number", BigInteger, nullable=False),
    Column("last_published_at", _MOMENT, nullable=False),
    Column("delivered_number", BigInteger, nullable=False),
    Column("dropped_number", BigInteger, nullable=False),
    Column("dropped_published_at", _MOMENT, nullable=False),
    comment="The last event published, delivered to Redis, and dropped because of its age",
)
