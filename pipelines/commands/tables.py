"""`weighbridge tables`."""

from __future__ import annotations

from typing import Any

import click

from pipelines.commands.erase import erase
from pipelines.commands.maintain import maintain
from pipelines.commands.terminal import console, opened
from pipelines.moments import Moment, as_time, check_span
from pipelines.options import PACKAGE
from pipelines.place import PLACE_PARAMETERS, Place


@click.group(invoke_without_command=True, params=[*PLACE_PARAMETERS, PACKAGE])
def tables(extractors_package: str, **parameters: Any) -> None:
    """Show the tables: rows, partitions, snapshots."""
    if click.get_current_context().invoked_subcommand is None:
        from pipelines.config.options import load_models
        from pipelines.render import print_tables

        tables = opened(Place.of(parameters))
        print_tables(console, tables, load_models(extractors_package))


@tables.command(params=[*PLACE_PARAMETERS])
@click.argument("model")
@click.option("--actuals", is_flag=True, help="Its actuals instead of its predictions.")
@click.option("--rows", default=3, show_default=True, type=click.IntRange(min=1))
def show(model: str, actuals: bool, rows: int, **parameters: Any) -> None:
    """Print rows of a model's table, or of a platform table such as `deliveries`."""
    from pipelines.render import print_rows

    print_rows(console, opened(Place.of(parameters)), model, actuals, rows)


@tables.command(params=[*PLACE_PARAMETERS])
@click.argument("model")
@click.option(
    "--since",
    type=Moment(),
    help="Actuals since: 2026-11-24, 2026-11-24T06:00:00Z, or 6h, 2d for as long ago.",
)
@click.option("--until", type=Moment(), help="Actuals before; times as of --since.")
def labels(model: str, since: int | None, until: int | None, **parameters: Any) -> None:
    """Count the labels of a model: with a prediction, without one, too early, corrected."""
    check_span(since, until)
    from pipelines.joined import count_labels
    from pipelines.render import print_labels

    tables = opened(Place.of(parameters))
    found = count_labels(tables, model, since=as_time(since), until=as_time(until))
    print_labels(console, found)


tables.add_command(erase)
tables.add_command(maintain)
