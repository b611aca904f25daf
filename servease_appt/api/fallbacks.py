"""Answer other methods (405 with Allow, OPTIONS) and unknown paths (404) below the API's paths.

Flask answers both before it chooses a blueprint, with the application's error pages, which are the host's
when the service is embedded. So both are routes here, added last and for any method.
"""

from collections.abc import Callable, Iterable

from flask import Blueprint, Response, request
from flask.sansio.blueprints import BlueprintSetupState

from servease_appt.api.errors import detail_error
from servease_appt.api.responses import empty_response
from servease_appt.api.routing import AS_WRITTEN, Resource

BLUEPRINT = "fallback"


def fallback_blueprint(resources: Iterable[Resource]) -> Blueprint:
    """Return a blueprint that answers all methods and paths that `resources` don't. Register it after them."""
    blueprint = Blueprint(BLUEPRINT, __name__)
    allowed: dict[str, set[str]] = {}
    roots: dict[str, None] = {}
    for resource in resources:
        roots[resource.root] = None
        for route in resource.routes:
            methods = {route.method, "HEAD"} if route.method == "GET" else {route.method}
            allowed.setdefault(route.path, {"OPTIONS"}).update(methods)
    for number, (path, methods) in enumerate(allowed.items()):
        _add(blueprint, path, f"other_methods_{number}", _other_methods(", ".join(sorted(methods))))
    for number, root in enumerate(roots):
        _add(blueprint, f"{root}<path:unknown>", f"unknown_{number}", _unknown)
    blueprint.record(_match_every_method)
    return blueprint


def _add(blueprint: Blueprint, path: str, name: str, view: Callable[..., Response]) -> None:
    blueprint.add_url_rule(path, name, view, methods=["GET"], provide_automatic_options=False, **AS_WRITTEN)


def _match_every_method(state: BlueprintSetupState) -> None:
    """Let the rules of this blueprint match any method, also an unknown one.

    `add_url_rule` takes a set of methods only; a rule of Werkzeug without one matches all methods.
    """
    ours = f"{state.name_prefix}.{state.name}.".lstrip(".")
    for rule in state.app.url_map.iter_rules():
        if rule.endpoint.startswith(ours):
            rule.methods = None


def _other_methods(allow: str) -> Callable[..., Response]:
    def other_method(**_: str) -> Response:
        if request.method == "OPTIONS":
            return empty_response({"Allow": allow})
        raise detail_error(405, Allow=allow)

    return other_method


def _unknown(unknown: str) -> Response:  # noqa: ARG001 - a route's parameter
    raise detail_error(404)
