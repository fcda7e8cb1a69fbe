"""`weighbridge tables`."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.commands.maintain import maintain
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

    given = context.get_parameter_source("home") is not click.core.ParameterSource.DEFAULT
    assert context.parent is not None
    place = home if given else context.parent.params["home"]
    print_rows(console, opened(place), model, actuals, rows)


tables.add_command(maintain)
