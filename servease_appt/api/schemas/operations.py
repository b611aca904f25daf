"""Health, the cache endpoints, and errors: what is sent, and the answers."""

from marshmallow import INCLUDE, Schema, fields

from servease_appt.api.schemas.bases import AnswerSchema, RequestSchema
from servease_appt.api.schemas.fields import Choice, Figure, Flag, Ids, Text, Whole
from servease_appt.cache import Mode
from servease_appt.references.entities import ENTITIES

MOST_INVALIDATIONS = 1000


class HealthSchema(AnswerSchema):
    """This process runs."""

    status = Choice(["healthy"])
    service = Text()
    version = Text()


class ReadinessSchema(AnswerSchema):
    """Whether requests can be served, and the state of each part."""

    status = Choice(["ready", "degraded", "unavailable", "draining"])
    checks = fields.Dict(
        keys=fields.String(),
        values=Text(),
        metadata={"description": "The state of each part in a word or two."},
    )


class CacheInvalidation(RequestSchema):
    """What has changed in another service."""

    entity = Choice(ENTITIES, required=True)
    ids = Ids(MOST_INVALIDATIONS, required=True)


class InvalidatedSchema(AnswerSchema):
    """How many distinct ids were given."""

    invalidated = Whole()


def _counts(levels: int, about: str | None = None) -> fields.Dict:
    """Return a field for numbers by name, in that many levels of objects."""
    values = _counts(levels - 1) if levels > 1 else Figure(allow_none=True)
    return fields.Dict(keys=fields.String(), values=values, metadata={"description": about} if about else {})


class WorkerCacheSchema(AnswerSchema):
    """The cache of the worker that answers."""

    id = Text()
    l1_entries = Whole()
    l1_evictions = Whole()
    channel_confirmed = Flag()
    tracking = Flag()
    sequence = Whole(allow_none=True, metadata={"description": "The last invalidation that was handled."})
    breakers = fields.Dict(
        keys=fields.String(), values=Text(), metadata={"description": "Each breaker's state."}
    )
    tiers = _counts(3, "Events by tier, entity and event.")
    endpoints = _counts(2, "References by endpoint and source, with the `hit_rate`.")


class AllWorkersCacheSchema(AnswerSchema):
    """The sums over all workers."""

    modes = _counts(1, "Workers by mode.")
    breakers = _counts(2, "Workers by breaker and state.")
    tiers = _counts(3, "Events by tier, entity and event.")
    endpoints = _counts(2, "References by endpoint and source, with the `hit_rate`.")
    times = _counts(2, "Count and quantiles in milliseconds, by what was timed.")


class CacheStatsSchema(AnswerSchema):
    """The cache's counters."""

    mode = Choice(Mode, metadata={"description": "What this worker serves from."})
    worker = fields.Nested(WorkerCacheSchema)
    all_workers = fields.Nested(AllWorkersCacheSchema)


class DocumentSchema(Schema):
    """An OpenAPI document."""

    class Meta:
        unknown = INCLUDE


class ErrorSchema(AnswerSchema):
    """What went wrong, in a sentence."""

    detail = Text()


FIELD_ERRORS = fields.Dict(
    keys=fields.String(),
    values=fields.List(fields.String()),
    metadata={"description": "Each wrong field with what is wrong with it; `detail` for a rule."},
)
"""The body of a 400. Its names are those of the request's fields, so no schema can list them."""
