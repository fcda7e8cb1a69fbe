"""`weighbridge tables`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from pipelines.commands.maintain import maintain
from pipelines.commands.moments import Moment
from pipelines.commands.terminal import console, opened
from pipelines.options import PACKAGE
from pipelines.place import HOME


@click.group(invoke_without_command=True, params=[HOME, PACKAGE])
@click.pass_context
def tables(context: click.Context, home: Path, extractors_package: str) -> None:
    """Show the tables: rows, partitions, snapshots."""
    if context.invoked_subcommand is None:
        from pipelines.config.options import load_models
        from pipelines.render import print_tables

        print_tables(console, opened(home), load_models(extractors_package))


@tables.command(params=[HOME])
@click.argument("model")
@click.option("--actuals", is_flag=True, help="Its actuals instead of its predictions.")
@click.option("--rows", default=3, show_default=True, type=click.IntRange(min=1))
@click.pass_context
def show(context: click.Context, home: Path, model: str, actuals: bool, rows: int) -> None:
    """Print rows of a model's table, or of a platform table such as `deliveries`."""
    from pipelines.render import print_rows

    print_rows(console, opened(_home(context, home)), model, actuals, rows)


@tables.command(params=[HOME])
@click.argument("model")
@click.option("--since", type=Moment(), help="Actuals of this day or time, and later.")
@click.option("--until", type=Moment(), help="Actuals before this day or time.")
@click.pass_context
def labels(
    context: click.Context, home: Path, model: str, since: datetime | None, until: datetime | None
) -> None:
    """Count the labels of a model: with a prediction, without one, too early, corrected."""
    from pipelines.joined import count_labels
    from pipelines.render import print_labels

    found = count_labels(opened(_home(context, home)), model, since=since, until=until)
    print_labels(console, found)


def _home(context: click.Context, home: Path) -> Path:
    """The option of the command, else that of the group."""
    given = context.get_parameter_source("home") is not click.core.ParameterSource.DEFAULT
    assert context.parent is not None
    inherited: Path = context.parent.params["home"]
    return home if given else inherited


tables.add_command(maintain)
