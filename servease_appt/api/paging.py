"""One page of rows, with the addresses of the pages around it."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from flask import Request

from servease_appt.api.errors import detail_error
from servease_appt.api.parsing import query_pairs

_HOST = re.compile(r"(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """What `PageSchema` dumps."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[Any]


def page_answer(
    request: Request, rows: Sequence[Any], *, count: int, page: int, page_size: int
) -> PageAnswer:
    """Return one page.

    Args:
        request: the request whose address the other pages have, but for their number.
        rows: the rows of the page.
        count: how many rows there are on all pages.
        page: the number of the page, counted from 1.
        page_size: how many rows a page has at most.

    Raises:
        ApiError: 404 for a page after the last. The first page always exists.
    """
    last = -(-count // page_size) or 1
    if page > last:
        raise detail_error(404, "Invalid page.")
    return PageAnswer(
        count,
        link(request, "page", str(page + 1)) if page < last else None,
        link(request, "page", str(page - 1)) if page > 1 else None,
        rows,
    )


def link(request: Request, name: str, value: str, without: Collection[str] = ()) -> str:
    """Return the address of this query on another page, which the parameter `name` names, without some others.

    It is absolute where the request's `Host` can be the name of a host, else relative: older versions of Werkzeug
    pass any text on. Paths of the API are plain ASCII, so the slow quoting of `request.base_url` is not needed.
    """
    host = request.host
    origin = f"{request.scheme}://{host}" if _HOST.fullmatch(host) else ""
    place = f"{origin}{quote(request.root_path)}{request.path}"
    if not request.query_string:
        return f"{place}?{name}={value}"
    pairs = [(key, given) for key, given in query_pairs(request) if key != name and key not in without]
    return f"{place}?{urlencode([*pairs, (name, value)])}"
