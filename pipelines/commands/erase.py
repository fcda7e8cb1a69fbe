"""`weighbridge tables erase`."""

from __future__ import annotations

import sys
from typing import Any

import click

from pipelines.commands.terminal import console, opened
from pipelines.options import PACKAGE
from pipelines.place import PLACE_PARAMETERS, Place


@click.command(params=[*PLACE_PARAMETERS, PACKAGE])
@click.option("--model", required=True, metavar="ID", help="Whose rows.")
@click.option(
    "--where",
    required=True,
    metavar="EXPRESSION",
    help="Which rows, such as \"customer_id = 'c-17'\"; - reads it from standard input.",
)
@click.option("--dry_run", is_flag=True, help="Say how many rows it would be; change nothing.")
def erase(model: str, where: str, dry_run: bool, **parameters: Any) -> None:
    """Take rows out of a model's tables for good, with all files that held them.

    Older snapshots of these tables go, too; BigQuery and Cloud Storage keep what is deleted for
    some days. Old input that is run again does not bring the rows back. Exit status: 0 done, 1 a
    file still holds some, 2 wrong usage or configuration.
    """
    tables = opened(Place.of(parameters))

    from pipelines.config.options import load_models
    from pipelines.erase.command import erase_and_show

    extractors = load_models(parameters["extractors_package"])
    expression = sys.stdin.read().strip() if where == "-" else where
    if not erase_and_show(console, tables, extractors, model, expression, dry_run):
        raise click.exceptions.Exit(1)
