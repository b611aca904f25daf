"""`flask --app wsgi cache …`: the cache's commands for operators."""

from __future__ import annotations

import os

import click

from servease_appt.cli.cache import (
    dashboard,
    doctor,
    explain,
    inspect,
    invalidate,
    l1_switch,
    monitor,
    stats,
    warm,
)


@click.group("cache", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--no-color", is_flag=True, help="Print without colours; NO_COLOR does the same.")
@click.pass_context
def commands(context: click.Context, no_color: bool) -> None:
    """Inspect and control the cache.

    \b
    Name a customer, vehicle or employee in any of these ways:
      customer bcee5755-2c9f-4c0a-8720-1592b75edf96
      customer_bcee5755-2c9f-4c0a-8720-1592b75edf96
      appointment_service:customer_bcee5755-2c9f-4c0a-8720-1592b75edf96

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    if no_color or os.environ.get("NO_COLOR"):
        context.color = False


for command in (
    inspect.keys_command,
    inspect.get_command,
    inspect.ttl_command,
    inspect.exists_command,
    invalidate.invalidate_command,
    invalidate.clear_command,
    l1_switch.l1_command,
    stats.stats_command,
    monitor.monitor_command,
    warm.warm_command,
    explain.explain_command,
    doctor.doctor_command,
    dashboard.dashboard_command,
):
    commands.add_command(command)
