"""Routes that say what they are: who may call them, what they take, what they answer.

One declaration is checked on every request and written into the OpenAPI document, so the two can't drift apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from flask import Blueprint, Response, request
from marshmallow import Schema

from servease_appt.api.context import container
from servease_appt.api.errors import detail_error
from servease_appt.api.parsing import read_body, read_query, refuse_large_body
from servease_appt.api.tokens import ACCESS, Caller, read_caller
from servease_appt.appointments.actors import Role
from servease_appt.identifiers import canonical_uuid

View = Callable[..., Response]
Shape = dict[str, Any]
AS_WRITTEN: dict[str, Any] = {"strict_slashes": False, "merge_slashes": False}
"""Rule options: with and without the trailing slash, and never a redirect."""


class RequiredRole(Enum):
    """Who may call a route; the value is the roles, None for everybody without a token."""

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
    answer: Shape | None
    """JSON schema of the answer; None for an answer without JSON."""
    status: int
    query: Schema | None
    body: Schema | None
    customer_body: Schema | None
    """What a customer may send, where that is less than `body`."""
    headers: tuple[str, ...]
    """Request headers that the route reads, beside the token."""
    errors: tuple[int, ...]
    """Statuses that follow from nothing else said here."""
    named: bool
    """Whether the answer carries names, and so tells where they came from."""

    def body_schema(self, caller: Caller | None) -> Schema | None:
        """Return the schema for what this caller may send."""
        if self.customer_body is not None and caller is not None and caller.actor.role is Role.CUSTOMER:
            return self.customer_body
        return self.body


class Resource(Blueprint):
    """A blueprint whose routes are declared; all their paths begin with `root`, and nobody else's do."""

    def __init__(self, name: str, root: str, about: str, token_types: Sequence[str] = (ACCESS,)) -> None:
        """`token_types` are the kinds of tokens that the routes accept."""
        super().__init__(name, __name__)
        self._token_types = tuple(token_types)
        self.root = root
        self.about = about
        self.routes: list[Route] = []

    def declare(
        self,
        method: str,
        path: str,
        *,
        role: RequiredRole,
        summary: str,
        answer: Shape | None = None,
        status: int = 200,
        query: Schema | None = None,
        body: Schema | None = None,
        customer_body: Schema | None = None,
        headers: Sequence[str] = (),
        errors: Sequence[int] = (),
        named: bool = False,
    ) -> Callable[[View], View]:
        """Return a decorator that serves `method` of `path` by the function it decorates.

        The function gets, as keywords, `caller` unless the route is open, the path's ids as canonical UUIDs, and
        `query` and `body` where schemas are given for them.
        """

        def decorate(view: View) -> View:
            route = Route(
                name=view.__name__,
                method=method,
                path=path,
                role=role,
                summary=summary,
                answer=answer,
                status=status,
                query=query,
                body=body,
                customer_body=customer_body,
                headers=tuple(headers),
                errors=tuple(errors),
                named=named,
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
    """Return `view` behind the checks of `route`: token, role, size, ids, query, body, in this order."""
    roles = route.role.value

    def checked(**ids: str) -> Response:
        given: dict[str, Any] = {}
        caller = None
        if roles is not None:
            caller = given["caller"] = read_caller(
                request.environ.get("HTTP_AUTHORIZATION"), container().settings.secret_key, token_types
            )
            if caller.actor.role not in roles:
                raise detail_error(403)
        refuse_large_body(request)
        for name, text in ids.items():
            given[name] = _id_or_404(text)
        if route.query is not None:
            given["query"] = read_query(request, route.query)
        schema = route.body_schema(caller)
        if schema is not None:
            given["body"] = read_body(request, schema)
        return view(**given)

    return checked


def _id_or_404(text: str) -> str:
    known = canonical_uuid(text)
    if known is None:
        raise detail_error(404)
    return known
