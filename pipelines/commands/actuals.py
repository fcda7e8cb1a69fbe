"""`weighbridge actuals`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.commands.terminal import console, errors
from pipelines.units import Duration


@click.group()
def actuals() -> None:
    """Late actuals: what turned out to be true."""


@actuals.command("upload")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", required=True, metavar="ID", help="The model whose actuals they are.")
@click.option(
    "--destination",
    default="",
    envvar="WEIGHBRIDGE_DESTINATION",
    show_envvar=True,
    metavar="TOPIC_OR_FOLDER",
    help="A Pub/Sub topic, projects/P/topics/T, or a folder.",
)
@click.option(
    "--format",
    type=click.Choice(["parquet", "csv", "avro"]),
    show_default="by the file's suffix",
    help="What the file is.",
)
@click.option(
    "--event_time",
    default="",
    metavar="COLUMN",
    show_default="when the file was written",
    help="When each actual became known: times, ISO 8601 text, or numbers.",
)
@click.option(
    "--time_zone", default="", metavar="ZONE", help="Of event times that name none, e.g. UTC."
)
@click.option(
    "--time_unit",
    type=click.Choice(["s", "ms", "us", "ns"]),
    help="Of event times that are numbers since 1970.",
)
@click.option(
    "--sampling_key",
    default="",
    metavar="COLUMN",
    show_default="keep all",
    help="Sample by this column as the service does, at the rates of WEIGHBRIDGE_SAMPLE.",
)
@click.option("--model_version", default="", metavar="TEXT", help="The model's version.")
@click.option(
    "--as_text",
    multiple=True,
    metavar="COLUMN",
    help="Of CSV: text whatever it looks like, e.g. ids; more than once for several.",
)
@click.option(
    "--delimiter", default="", metavar="CHARACTER", show_default=",", help="Between values in CSV."
)
@click.option(
    "--retry_for",
    type=Duration(),
    default="1m",
    show_default=True,
    help="How long to try again when the destination does not take it.",
)
@click.option(
    "--dry_run", is_flag=True, help="Check the file and show its first actual; send none."
)
def upload_actuals(**parameters: Any) -> None:
    """Send the records of a Parquet, CSV or Avro FILE as late actuals.

    Each record becomes one actual whose payload is the record as a JSON object. The whole file is
    checked before anything is sent. The same record with the same event time is the same actual, so
    that a file may be sent again. Exit status: 0 all was delivered, 1 not all, 2 wrong usage or
    file.
    """
    from pipelines.actuals.command import UploadOptions, run_upload
    from pipelines.actuals.delivery import UndeliveredError

    try:
        run_upload(console, UploadOptions(**parameters))
    except UndeliveredError as error:
        errors.print(f"Error: {error}", markup=False, soft_wrap=True)
        raise click.exceptions.Exit(1) from None
