"""`cache dashboard`: print a link to the dashboard at `/ops/cache/`."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import with_appcontext

from servease_appt.cli.cache.session import current_container
from servease_appt.dashboard.links import LINK_LIFETIME_S, PATH, dashboard_link

_PAGE = "dashboard.dashboard_page"


@click.command("dashboard", short_help="Print a link that opens the dashboard once.")
@click.option(
    "--url",
    default="http://localhost:8005",
    show_default=True,
    metavar="URL",
    help="The service's address as a browser reaches it.",
)
@with_appcontext
def dashboard_command(url: str) -> None:
    """Print a link that opens the dashboard once, within two minutes.

    \b
    Examples:
      flask --app wsgi cache dashboard
      flask --app wsgi cache dashboard --url https://appointments.example
    """
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("it must begin with http:// or https://", param_hint="--url")
    paths = [rule.rule for rule in current_app.url_map.iter_rules() if rule.endpoint.endswith(_PAGE)]
    if not paths:
        raise click.ClickException(
            "This application has no dashboard: add it by `init_app(…, dashboard=True)`, or use"
            " `servease cache stats`."
        )
    prefix = paths[0].removesuffix(PATH)
    click.echo(dashboard_link(url.rstrip("/") + prefix, current_container().settings.secret_key))
    click.echo(f"The link works once, within {LINK_LIFETIME_S // 60} minutes.", err=True)
