"""Answers are dumped from declared fields: compiled as plain, complete, and spelled as promised."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marshmallow import Schema, fields, post_dump
from marshmallow.experimental.context import Context

from servease_appt.api.paging import PageAnswer
from servease_appt.api.schemas.appointments import (
    AnswerContext,
    AppointmentDetailSchema,
    AppointmentPageSchema,
    AppointmentSchema,
)
from servease_appt.api.schemas.compiled import CompiledSchema
from servease_appt.api.schemas.history import HistorySchema
from servease_appt.api.schemas.operations import AllWorkersCacheSchema, CacheStatsSchema, WorkerCacheSchema
from servease_appt.api.schemas.reports import FreeStartSchema, StatsSchema
from servease_appt.api.schemas.time_slots import TimeSlotSchema
from servease_appt.appointments.records import (
    Appointment,
    AppointmentRow,
    FreeStart,
    HistoryRow,
    Slot,
    Stats,
)
from servease_appt.observability.cache_report import cache_report
from servease_appt.scheduling.statuses import Status
from tests.support.dataset import Dataset

NAMES = ["customer_name", "vehicle_details", "employee_name"]
COMPUTED = ["duration", "time_until_appointment"]

ids = st.uuids().map(str)
texts = st.text()
counts = st.integers(min_value=-(2**31), max_value=2**31 - 1)
days = st.dates()
clocks = st.times()
moments = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))
rows = st.builds(
    AppointmentRow,
    ids,
    ids,
    ids,
    st.none() | ids,
    texts,
    days.map(date.isoformat),
    clocks.map(lambda clock: clock.isoformat("seconds")),
    texts,
)
appointments = st.builds(
    Appointment,
    **dict.fromkeys(("id", "customer_id", "vehicle_id", "created_by_user_id"), ids),
    assigned_employee_id=st.none() | ids,
    **dict.fromkeys(
        ("appointment_type", "status", "service_description", "customer_notes", "internal_notes"), texts
    ),
    scheduled_date=st.dates(min_value=date(1, 1, 3), max_value=date(9999, 12, 29)),
    scheduled_time=clocks,
    duration_minutes=counts,
    estimated_cost=st.none() | st.decimals(min_value=0, max_value=99_999_999, places=2),
    duration_seconds=counts,
    created_at=moments,
    updated_at=moments,
    cancelled_at=st.none() | moments,
    completed_at=st.none() | moments,
)
ROWS_OF: dict[type[CompiledSchema], st.SearchStrategy[Any]] = {
    AppointmentSchema: rows,
    AppointmentDetailSchema: appointments,
    HistorySchema: st.builds(HistoryRow, ids, ids, ids, texts, texts, texts, moments),
    TimeSlotSchema: st.builds(Slot, ids, days, clocks, clocks, st.booleans(), counts, counts),
    FreeStartSchema: st.builds(FreeStart, days, clocks, clocks, counts),
}


class _AnyText(dict[Any, str]):
    """Has a text for every id."""

    def __missing__(self, id_: object) -> str:
        return f"the name of {id_}"


@pytest.fixture(autouse=True)
def context() -> Iterator[AnswerContext]:
    """Names for every id, and a moment."""
    here = AnswerContext(
        _AnyText(),
        _AnyText(),
        _AnyText(),
        lambda: datetime(2026, 3, 1, 12, tzinfo=UTC),
        ZoneInfo("Europe/Berlin"),
    )
    with Context(here):
        yield here


# The application that other tests here ask has threads that draw jitter from `random`; Hypothesis notices that.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@pytest.mark.parametrize("schema_class", ROWS_OF, ids=lambda kind: kind.__name__)
def test_compiled_is_as_plain(schema_class: type[CompiledSchema]) -> None:
    """For any values, one row and many, the compiled dump is marshmallow's own: values, types and order."""
    schema = schema_class()

    # How long an example takes says only how busy the machine is.
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(ROWS_OF[schema_class], max_size=3))
    def check(found: list[Any]) -> None:
        plain = Schema.dump(schema, found, many=True)
        compiled = schema.dump(found, many=True)
        assert compiled == plain
        for ours, theirs in zip(compiled, plain, strict=True):
            assert list(ours.items()) == list(theirs.items())
            assert [type(value) for value in ours.values()] == [type(value) for value in theirs.values()]
        for row in found:
            assert schema.dump(row) == Schema.dump(schema, row)

    check()


@pytest.mark.parametrize("schema_class", ROWS_OF, ids=lambda kind: kind.__name__)
def test_compiled_keeps_none(schema_class: type[CompiledSchema]) -> None:
    """Where every value is None, so is every field that is not computed."""
    schema = schema_class(exclude=[name for name in COMPUTED if name in schema_class().fields])
    nothing = SimpleNamespace(**dict.fromkeys(schema.fields))
    assert schema.dump(nothing) == Schema.dump(schema, nothing)
    assert {value for name, value in schema.dump(nothing).items() if name not in NAMES} == {None}


def test_a_compiled_page_is_as_plain() -> None:
    """Schemas within schemas are dumped as well."""
    row = AppointmentRow("1", "2", "3", None, "repair", "2026-01-01", "10:00:00", "pending")
    page = PageAnswer(7, "next", None, [row, row])
    schema = AppointmentPageSchema()
    assert schema.dump(page) == Schema.dump(schema, page)
    assert [entry["employee_name"] for entry in schema.dump(page)["results"]] == ["the name of None"] * 2


def test_compiled_knows_other_keys_and_attributes() -> None:
    """`data_key`, a dotted `attribute` and `only` mean what they mean in marshmallow."""

    class Some(CompiledSchema):
        a = fields.String(data_key="A-key")
        b = fields.Integer(attribute="inner.deep")
        c = fields.Raw()

    row = SimpleNamespace(a=1, inner=SimpleNamespace(deep="5"), c=[])
    for schema in (Some(), Some(only=["a", "b"]), Some(exclude=["a"])):
        assert schema.dump(row) == Schema.dump(schema, row)
    assert Some().dump(row) == {"A-key": "1", "b": 5, "c": []}


def test_compiled_refuses_hooks() -> None:
    """A hook of dump would silently not be called."""

    class Hooked(CompiledSchema):
        a = fields.Raw()

        @post_dump
        def _never(self, data: object, **_: Any) -> object:
            return data

    with pytest.raises(TypeError, match="Hooked"):
        Hooked()


def test_compiled_refuses_a_row_without_a_field() -> None:
    """marshmallow would leave the field out of the answer."""
    with pytest.raises(AttributeError):
        FreeStartSchema().dump(SimpleNamespace(date=None))


def _attributes(schema: Schema) -> list[str]:
    return [field.attribute or name for name, field in schema.fields.items()]


def test_schemas_have_the_fields_of_their_records() -> None:
    """What a use case returns is in the answer: a new column that no schema has fails here."""
    assert _attributes(AppointmentSchema()) == [*AppointmentRow._fields, *NAMES]
    detail = {field.name for field in dataclasses.fields(Appointment)}
    assert set(_attributes(AppointmentDetailSchema())) == detail | {*NAMES, *COMPUTED}
    assert _attributes(HistorySchema()) == list(HistoryRow._fields)
    assert _attributes(TimeSlotSchema()) == list(Slot._fields)
    assert _attributes(FreeStartSchema()) == list(FreeStart._fields)
    stats = {field.name for field in dataclasses.fields(Stats)} - {"by_status"}
    assert set(_attributes(StatsSchema())) == stats | {f"by_status.{status}" for status in Status}


def test_the_cache_report_has_the_fields_of_its_schema(dataset: Dataset) -> None:
    """A counter that no schema has, or that is not there any more, fails here."""
    parts = dataset.container
    report = cache_report(parts.lookups, parts.metrics)
    assert set(report) == set(CacheStatsSchema().fields)
    assert set(report["worker"]) == set(WorkerCacheSchema().fields)
    assert set(report["all_workers"]) == set(AllWorkersCacheSchema().fields)


def test_values_are_spelled_as_promised() -> None:
    """Money is text with two decimals, times have no fractions, timestamps end in Z."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    appointment = Appointment(
        id="a",
        customer_id="b",
        vehicle_id="c",
        assigned_employee_id=None,
        appointment_type="repair",
        scheduled_date=date(2026, 3, 2),
        scheduled_time=time(9, 30, 0, 999),
        duration_minutes=60,
        status="pending",
        service_description="",
        customer_notes="",
        internal_notes="",
        estimated_cost=Decimal(5),
        duration_seconds=3725,
        created_by_user_id="d",
        created_at=moment,
        updated_at=moment,
        cancelled_at=None,
        completed_at=None,
    )
    detail = orjson.loads(orjson.dumps(AppointmentDetailSchema().dump(appointment), option=orjson.OPT_UTC_Z))
    assert (detail["scheduled_date"], detail["scheduled_time"]) == ("2026-03-02", "09:30:00")
    assert (detail["estimated_cost"], detail["duration"]) == ("5.00", "01:02:05")
    assert detail["created_at"] == "2026-01-02T03:04:05.000678Z"
    assert detail["time_until_appointment"] == "20 hours"
