"""`cache dashboard`: the way into the page at `/ops/cache/`."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import with_appcontext

from servease_appt.cli.cache.session import current_container
from servease_appt.dashboard.links import LINK_LIFETIME_S, PATH, dashboard_link

_PAGE = "dashboard.dashboard_page"


@click.command("dashboard")
@click.option(
    "--url",
    default="http://localhost:8005",
    show_default=True,
    metavar="URL",
    help="Where a browser reaches the service.",
)
@with_appcontext
def dashboard_command(url: str) -> None:
    """Print a link to the dashboard; it opens it once, within two minutes.

    \b
    Examples:
      flask --app wsgi cache dashboard
      flask --app wsgi cache dashboard --url https://appointments.example
    """
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("it begins with http:// or https://", param_hint="--url")
    paths = [rule.rule for rule in current_app.url_map.iter_rules() if rule.endpoint.endswith(_PAGE)]
    if not paths:
        raise click.ClickException(
            "This application has no dashboard: `init_app(…, dashboard=True)` gives it one."
            " `servease cache stats` shows the same."
        )
    prefix = paths[0].removesuffix(PATH)
    click.echo(dashboard_link(url.rstrip("/") + prefix, current_container().settings.secret_key))
    click.echo(f"It opens the page once, within {LINK_LIFETIME_S // 60} minutes.", err=True)
