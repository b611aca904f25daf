"""`servease`: the commands `cache`, `db` and `slots`, in any folder.

They are those of `flask --app wsgi`, which needs the folder that holds `wsgi.py`, and which Ctrl-C ends with a
traceback while Python imports Flask.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from servease_appt.early_interrupt import silent_interrupt

if TYPE_CHECKING:
    from flask import Flask


def main() -> None:
    """Run the command that `sys.argv` names, for the service that the environment describes."""
    with silent_interrupt():
        import click
        from flask.cli import ScriptInfo

        import servease_appt
        from servease_appt.extension import COMMANDS

    group = click.Group(
        "servease",
        list(COMMANDS),
        help="The appointment service: its cache, its tables, its time slots.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    click.version_option(servease_appt.__version__)(group)
    group.main(prog_name="servease", obj=ScriptInfo(create_app=_create_app))


def _create_app() -> Flask:
    from servease_appt.app import create_app
    from servease_appt.settings import SettingsError

    try:
        return create_app()
    except SettingsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
