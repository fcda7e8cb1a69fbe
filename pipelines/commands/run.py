"""`weighbridge run`."""

from __future__ import annotations

from typing import Any

import click

from pipelines.commands.terminal import console, quiet_imports
from pipelines.options import RUN_PARAMETERS, RUN_SETTINGS, run_options


def _run(**parameters: Any) -> None:
    """Read archive files, or follow a subscription, and add what is missing to tables and to Arize.

    Following goes on until SIGINT or SIGTERM, which end it after the batch in hand. Options of
    Apache Beam pass through. Exit status: 0 done (dead letters are reported, and no error), 1 the
    run failed, 2 wrong usage or configuration.
    """
    with quiet_imports():
        from pipelines.console import ConsoleDisplay
        from pipelines.main import run_with
        from pipelines.render import print_report
    options = run_options(parameters, click.get_current_context().args)
    with ConsoleDisplay(console) as display:
        report = run_with(options, display, forked=True)
    if options.streaming:
        return
    print_report(console, report, options.home)
    if report.failing:
        raise click.exceptions.Exit(1)
    if report.push_denied:
        raise click.ClickException(
            "Arize refuses the key or a space; the rows are in the tables, and wait in the outbox"
        )


run = click.Command(
    "run",
    callback=_run,
    params=RUN_PARAMETERS,
    context_settings=RUN_SETTINGS,
    help=_run.__doc__,
    short_help="Read archive files and add what is missing.",
)
