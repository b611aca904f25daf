"""Declared routes: who may call them, what they take, what they answer.

One declaration is checked on every request and written into the OpenAPI document, so that both always agree.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from flask import Blueprint, Response, request
from marshmallow import Schema

from servease_appt.api.context import container
from servease_appt.api.errors import detail_error, rule_error
from servease_appt.api.parsing import LARGEST_BODY, read_body, read_query
from servease_appt.api.responses import JSON
from servease_appt.api.tokens import ACCESS, read_caller
from servease_appt.appointments.actors import Role
from servease_appt.identifiers import canonical_uuid
from servease_appt.rate_limits import Cost

View = Callable[..., Response]
AS_WRITTEN: dict[str, Any] = {"strict_slashes": False, "merge_slashes": False}
"""Rule options: with and without the trailing slash, and never a redirect."""
_PORT = re.compile(r":\d*\Z")


class RequiredRole(Enum):
    """Who may call a route: a set of roles, or None when no token is needed."""

    OPEN = None
    USERS = frozenset({Role.CUSTOMER, Role.EMPLOYEE, Role.ADMIN})
    STAFF = frozenset({Role.EMPLOYEE, Role.ADMIN})
    ADMIN = frozenset({Role.ADMIN})
    CACHE = frozenset({Role.ADMIN, Role.SERVICE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path."""

    name: str
    method: str
    path: str
    role: RequiredRole
    summary: str
    answer: Schema | tuple[Schema, ...] | None
    """The schema of the answer, or several of which it is one; None for an answer without JSON."""
    media_type: str
    """The type of the answer. An answer with status 204 has none."""
    status: int
    query: Schema | None
    body: Schema | None
    customer_body: Schema | None
    """What a customer may send, where that is less than `body`."""
    headers: tuple[str, ...]
    """Request headers that the route reads, beside the token."""
    answer_headers: tuple[str, ...]
    """Headers of the answer that clients may rely on."""
    errors: tuple[int, ...]
    """Error statuses that do not follow from the rest of the declaration."""
    error_answer: Schema | None
    """The body of the answers with these statuses; None for the usual one."""
    cost: Cost
    """Which of a caller's limits a request counts against."""
    in_document: bool
    """Whether the OpenAPI document has the route; files that a page loads are no part of the API."""


class Resource(Blueprint):
    """A blueprint of declared routes. All paths below `root` belong to the API."""

    def __init__(self, name: str, root: str, tag: str, token_types: Sequence[str] = (ACCESS,)) -> None:
        """Make a blueprint without routes.

        Args:
            name: the blueprint's name.
            root: the path with which its routes begin.
            tag: the heading of its routes in the OpenAPI document.
            token_types: the types of tokens that its routes accept.
        """
        super().__init__(name, __name__)
        self._token_types = tuple(token_types)
        self.root = root
        self.tag = tag
        self.routes: list[Route] = []

    def declare(
        self,
        method: str,
        path: str,
        *,
        role: RequiredRole,
        summary: str,
        answer: Schema | tuple[Schema, ...] | None = None,
        media_type: str = JSON,
        status: int = 200,
        query: Schema | None = None,
        body: Schema | None = None,
        customer_body: Schema | None = None,
        headers: Sequence[str] = (),
        answer_headers: Sequence[str] = (),
        errors: Sequence[int] = (),
        error_answer: Schema | None = None,
        cost: Cost = Cost.NORMAL,
        in_document: bool = True,
    ) -> Callable[[View], View]:
        """Return a decorator that serves `method` of `path` by the function it decorates.

        The function is called with keywords: `caller` unless the route is open, the path's ids as canonical
        UUIDs, and `query` and `body` where schemas are given for them. The arguments here are those of `Route`.
        """

        def decorate(view: View) -> View:
            route = Route(
                name=view.__name__,
                method=method,
                path=path,
                role=role,
                summary=summary,
                answer=answer,
                media_type=media_type,
                status=status,
                query=query,
                body=body,
                customer_body=customer_body,
                headers=tuple(headers),
                answer_headers=tuple(answer_headers),
                errors=tuple(errors),
                error_answer=error_answer,
                cost=cost,
                in_document=in_document,
            )
            self.routes.append(route)
            self.add_url_rule(
                path,
                route.name,
                _checked(route, view, self._token_types),
                methods=[method],
                provide_automatic_options=False,
                **AS_WRITTEN,
            )
            return view

        return decorate


def _checked(route: Route, view: View, token_types: Sequence[str]) -> View:
    """Return `view` behind the checks of `route`: host, token, role, rate, size, ids, query, body, in this order.

    An open route has no check of the host: probes call it by any address, and no answer of its repeats that. Where
    appointments may change, the caller's next lists show it (see `ListReads.own_write`).
    """
    roles = route.role.value
    customer_body = route.customer_body or route.body

    def checked(**ids: str) -> Response:
        # Werkzeug takes `//metrics` for `/metrics`; a proxy that hides a path compares the whole of it.
        if request.environ["PATH_INFO"].startswith("//"):
            raise detail_error(404)
        given: dict[str, Any] = {}
        body = route.body
        if roles is not None:
            parts = container()
            if not host_allowed(request.host, parts.settings.allowed_hosts):
                raise rule_error("This host is not served here.")
            caller = read_caller(
                request.environ.get("HTTP_AUTHORIZATION"), parts.settings.secret_key, token_types
            )
            if caller.actor.role not in roles:
                raise detail_error(403)
            wait_s = parts.rate_limits.wait_s(caller.actor.user_id or caller.actor.role, route.cost)
            if wait_s:
                raise detail_error(429, Retry_After=str(wait_s))
            if caller.actor.role is Role.CUSTOMER:
                body = customer_body
            given["caller"] = caller
        if (request.content_length or 0) > LARGEST_BODY:
            raise detail_error(413)
        for name, text in ids.items():
            given[name] = _id_or_404(text)
        if route.query is not None:
            given["query"] = read_query(request, route.query)
        if body is not None:
            given["body"] = read_body(request, body)
        if roles is None or route.method == "GET" or route.role is RequiredRole.CACHE:
            return view(**given)
        with parts.list_reads.own_write(caller.actor.user_id):
            return view(**given)

    return checked


def host_allowed(host: str, allowed: Collection[str]) -> bool:
    """Return whether a request may have this `Host`.

    Args:
        host: the header, with or without a port, in upper or lower case.
        allowed: names in lower case without port; one that begins with a dot also means all names that end with
            it. Empty allows every host.
    """
    if not allowed:
        return True
    name = _PORT.sub("", host).lower()
    return name in allowed or any(
        entry[0] == "." and (name == entry[1:] or name.endswith(entry)) for entry in allowed
    )


def _id_or_404(text: str) -> str:
    known = canonical_uuid(text)
    if known is None:
        raise detail_error(404)
    return known
