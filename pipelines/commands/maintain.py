"""`weighbridge tables maintain`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from pipelines.commands.terminal import console, opened
from pipelines.options import PACKAGE
from pipelines.place import PLACE_PARAMETERS, Place
from pipelines.units import Duration

DAY = 24 * 3600.0


@click.command(params=[*PLACE_PARAMETERS, PACKAGE])
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="ID",
    show_default="all models, and the platform's own tables",
    help="Only the tables of this model; more than once for several.",
)
@click.option(
    "--retain",
    type=Duration(),
    metavar="DURATION",
    help="Drop whole days that are older, e.g. 400d, where a model's settings say nothing else.",
)
@click.option("--dry_run", is_flag=True, help="Say what would be done, and change nothing.")
def maintain(
    models: tuple[str, ...],
    retain: float | None,
    dry_run: bool,
    **parameters: Any,
) -> None:
    """Compact small files, drop old days, and delete files that nothing names any more.

    It may run at any time, beside runs and followers. In BigQuery, which does the rest by itself,
    it sets when partitions expire. Exit status: 0 done, 1 a table could not be
    maintained, 2 wrong usage or configuration.
    """
    place = Place.of(parameters)
    if retain is not None and retain < DAY:
        raise click.UsageError("--retain: whole days are dropped; give at least 1d")
    tables = opened(place)

    from pipelines.config.options import load_models
    from pipelines.maintain.command import maintain_tables
    from pipelines.tables import Tables

    extractors = load_models(parameters["extractors_package"])
    known = {model_id for model_id, _ in extractors}
    for model in models:
        if model not in known:
            raise click.UsageError(f"--model {model}: not registered; {', '.join(sorted(known))}")
    keep = None if retain is None else timedelta(seconds=retain)
    if not isinstance(tables, Tables):
        from pipelines.bigquery.retain import expire_partitions

        expire_partitions(console, tables, extractors, models, keep, dry_run)
    elif not maintain_tables(console, tables, extractors, models, keep, dry_run):
        raise click.exceptions.Exit(1)
