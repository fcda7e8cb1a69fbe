"""`weighbridge failures`."""

from __future__ import annotations

from typing import Any

import click

from pipelines.address import Folder
from pipelines.commands.terminal import console, quiet_imports
from pipelines.moments import SELECTION_PARAMETERS, check_span
from pipelines.options import PACKAGE
from pipelines.place import HOME
from pipelines.selection import Selection

_FROM_PARENT = ("home", "extractors_package", "model", "since", "until")


@click.group(invoke_without_command=True, params=[*SELECTION_PARAMETERS, HOME, PACKAGE])
@click.pass_context
def failures(
    context: click.Context,
    /,
    home: Folder,
    extractors_package: str,
    model: str,
    since: int | None,
    until: int | None,
) -> None:
    """Show dead letters by cause: one line for each stage, cause, model and extractor version.

    Those that a replay has marked as done are left out. Times are publish times.
    """
    check_span(since, until)
    if context.invoked_subcommand is None:
        with quiet_imports():
            from pipelines.replay.failures_text import print_failures

        print_failures(console, home, extractors_package, Selection(model, since, until))


@failures.command(params=[HOME, PACKAGE])
@click.argument("group", default="")
@click.option("--payload", is_flag=True, help="Also the payload of an example.")
@click.pass_context
def show(context: click.Context, /, group: str, payload: bool, **own: Any) -> None:
    """Show a group, by default the largest: its cause, traceback, and where the bytes are."""
    with quiet_imports():
        from pipelines.replay.failures_text import print_group

    assert context.parent is not None
    given = dict(context.parent.params)
    default = click.core.ParameterSource.DEFAULT
    given |= {k: v for k, v in own.items() if context.get_parameter_source(k) is not default}
    selection = Selection(given["model"], given["since"], given["until"], group)
    print_group(console, given["home"], given["extractors_package"], selection, payload)
