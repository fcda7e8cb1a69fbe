"""Where tables are: the options that all commands on tables share, and the tables they name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pipelines.destination import Destination

DEFAULT_HOME = ".weighbridge"
_DATASET = re.compile(r"[a-z][a-z0-9.:-]*[a-z0-9]\.[A-Za-z0-9_]{1,1024}")
_FOLDER = re.compile(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/[^?#*\[\]]*)?")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where tables are, and all that is kept beside them."""

    home: Path
    tables: str = "iceberg"
    dataset: str = ""
    staging: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Place:
        """The place that a command's `PLACE_PARAMETERS` name.

        Raises:
            click.UsageError: options that do not go together.
        """
        check_place(parameters)
        return Place(
            **{name: parameters[name] for name in ("home", "tables", "dataset", "staging")}
        )

    @property
    def interval(self) -> float | None:
        """Seconds from commit to commit, of runs without end."""
        return None

    def open(self) -> Destination:
        """The tables.

        Raises:
            ConfigurationError: tables in BigQuery, and its clients are not installed.
        """
        if self.tables == "iceberg":
            from pipelines.tables import Tables

            return Tables(self.home)
        try:
            from pipelines.bigquery.tables import bigquery_tables
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"--tables bigquery needs {error.name}: "
                "pip install 'weighbridge-pipeline[bigquery]'"
            ) from None
        return bigquery_tables(self)


HOME = click.Option(
    ["--home"],
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_HOME,
    show_default=True,
    help="Folder that holds tables, outbox, dead letters and parked messages.",
)
PLACE_PARAMETERS: list[click.Parameter] = [
    HOME,
    click.Option(
        ["--tables"],
        type=click.Choice(["iceberg", "bigquery"]),
        default="iceberg",
        show_default=True,
        help="What keeps the rows.",
    ),
    click.Option(
        ["--dataset"], default="", metavar="PROJECT.DATASET", help="Of tables in BigQuery."
    ),
    click.Option(
        ["--staging"],
        default="",
        metavar="gs://BUCKET/PREFIX",
        help="Where files wait for BigQuery to load them.",
    ),
]


def check_place(parameters: Mapping[str, Any]) -> None:
    """Whether the options of a place go together.

    Raises:
        click.UsageError: they do not, with the remedy.
    """
    dataset, staging = parameters["dataset"], parameters["staging"]
    if parameters["tables"] != "bigquery":
        if dataset or staging:
            flag = "--dataset" if dataset else "--staging"
            raise click.UsageError(f"{flag} is for --tables bigquery; add that, or drop {flag}")
        return
    if not dataset:
        raise click.UsageError("--tables bigquery needs a --dataset, as in my-project.my_dataset")
    if not _DATASET.fullmatch(dataset):
        raise click.UsageError(
            f"--dataset: {dataset} is not of the form PROJECT.DATASET, as in my-project.my_dataset"
        )
    if not staging:
        raise click.UsageError(
            "--tables bigquery needs --staging gs://BUCKET/PREFIX: its load jobs read files there"
        )
    if not _FOLDER.fullmatch(staging):
        raise click.UsageError(f"--staging: {staging} is not of the form gs://BUCKET/PREFIX")
