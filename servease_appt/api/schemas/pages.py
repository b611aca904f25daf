"""Pages `{count, next, previous, results}`, as clients of Django REST framework know them."""

from typing import Any

from marshmallow import fields

from servease_appt.api.schemas.bases import RequestSchema
from servease_appt.api.schemas.compiled import CompiledSchema
from servease_appt.api.schemas.fields import Link, Whole

DEFAULT_PAGE_SIZE = 20
LARGEST_PAGE_SIZE = 100
LARGEST_PAGE = 1_000_000_000


def page_number(about: str, **kwargs: Any) -> Whole:
    """Return the query field `page`."""
    return Whole(1, LARGEST_PAGE, metadata={"description": about}, **kwargs)


class PageQuery(RequestSchema):
    """The query of every paged route. Unknown parameters are ignored."""

    page = page_number("The page, counted from 1.", load_default=1)
    page_size = Whole(
        1,
        LARGEST_PAGE_SIZE,
        load_default=DEFAULT_PAGE_SIZE,
        metadata={"description": f"Rows on a page, at most {LARGEST_PAGE_SIZE}."},
    )


class PageSchema(CompiledSchema):
    """One page; a subclass adds `results`. Dumps a `paging.PageAnswer`."""

    count = Whole(metadata={"description": "How many rows there are on all pages."})
    next = Link(allow_none=True, metadata={"description": "The next page; null on the last."})
    previous = Link(allow_none=True, metadata={"description": "The page before; null on the first."})
    results: fields.Field[Any]
