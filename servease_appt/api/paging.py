"""Pages `{count, next, previous, results}`, as clients of Django REST framework know them."""

from typing import Any
from urllib.parse import quote, urlencode

from flask import Request
from marshmallow import EXCLUDE, Schema

from servease_appt.api.errors import detail_error
from servease_appt.api.parsing import query_pairs
from servease_appt.api.schemas.fields import Whole

DEFAULT_PAGE_SIZE = 20
LARGEST_PAGE_SIZE = 100
LARGEST_PAGE = 1_000_000_000


def page_number(about: str, **kwargs: Any) -> Whole:
    """Return the query field `page`."""
    return Whole(1, LARGEST_PAGE, metadata={"description": about}, **kwargs)


def page_size() -> Whole:
    """Return the query field `page_size`."""
    about = f"Rows on a page, at most {LARGEST_PAGE_SIZE}."
    return Whole(1, LARGEST_PAGE_SIZE, load_default=DEFAULT_PAGE_SIZE, metadata={"description": about})


class PageQuery(Schema):
    """What every paged route takes. Unknown parameters are nobody's business."""

    class Meta:
        unknown = EXCLUDE

    page = page_number("The page, counted from 1.", load_default=1)
    page_size = page_size()


def page_body(
    request: Request, results: list[dict[str, object]], *, count: int, page: int, page_size: int
) -> dict[str, object]:
    """Return the body of one page. Raises ApiError 404 for a page beyond the last; the first always exists."""
    last = max(1, -(-count // page_size))
    if page > last:
        raise detail_error(404, "Invalid page.")
    return {
        "count": count,
        "next": _link(request, page + 1) if page < last else None,
        "previous": _link(request, page - 1) if page > 1 else None,
        "results": results,
    }


def _link(request: Request, page: int) -> str:
    """Return the address of this very query on another page.

    Our paths are plain ASCII, so `request.base_url` would spend its time on quoting what needs none.
    """
    place = f"{request.scheme}://{request.host}{quote(request.root_path)}{request.path}"
    if not request.query_string:
        return f"{place}?page={page}"
    pairs = [(name, value) for name, value in query_pairs(request) if name != "page"]
    return f"{place}?{urlencode([*pairs, ('page', str(page))])}"
