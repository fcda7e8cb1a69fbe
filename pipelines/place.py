"""Where tables are: the options that all commands on tables share, and the tables they name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.address import Address, Folder, folder_of
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pipelines.destination import Destination
    from pipelines.tables import Tables

DEFAULT_HOME = ".weighbridge"
_DATASET = re.compile(r"[a-z][a-z0-9.:-]*[a-z0-9]\.[A-Za-z0-9_]{1,1024}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_PASSWORD = re.compile(r"[^/]*//[^/@]*:[^/@]*@|.*[?&](password|token|secret)=", re.IGNORECASE)
_SECRET = re.compile("token|secret|password|credential|key|authorization", re.IGNORECASE)
_FOLDER = re.compile(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/[^?#*\[\]]*)?")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where tables are, and all that is kept beside them."""

    home: Folder
    tables: str = "iceberg"
    catalog_uri: str = ""
    warehouse: str = ""
    catalog_property: tuple[str, ...] = ()
    dataset: str = ""
    staging: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Place:
        """The place that a command's `PLACE_PARAMETERS` name.

        Raises:
            click.UsageError: options that do not go together.
        """
        check_place(parameters)
        return Place(**{item.name: parameters[item.name] for item in fields(Place)})

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
            return self.iceberg()
        try:
            from pipelines.bigquery.tables import bigquery_tables
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"--tables bigquery needs {error.name}: "
                "pip install 'weighbridge-pipeline[bigquery]'"
            ) from None
        return bigquery_tables(self)

    def iceberg(self) -> Tables:
        """The tables, where they are in an Iceberg catalog."""
        from pipelines.catalog import CatalogAddress
        from pipelines.tables import Tables

        pairs = tuple(_pair(text) for text in self.catalog_property)
        return Tables(self.home, CatalogAddress(self.catalog_uri, self.warehouse, pairs))

    def needs_this_machine(self) -> str:
        """What others could not reach, as the flag that says where it is; empty if all is."""
        from pipelines.catalog import is_here

        if isinstance(self.home, Path):
            return f"--home {self.home}"
        if self.catalog_uri and is_here(self.catalog_uri):
            return f"--catalog_uri {self.catalog_uri}"
        given = dict(map(_pair, self.catalog_property)).get("uri", "")
        if given and is_here(given):
            return f"--catalog_property uri={given}"
        if self.warehouse.startswith(("/", "file:")):  # others may be names
            return f"--warehouse {self.warehouse}"
        return ""

    def local_home(self, why: str) -> Path:
        """The home folder, where it must be on this machine.

        Args:
            why: who needs it, as the beginning of a sentence.

        Raises:
            click.UsageError: it is on an object store.
        """
        if isinstance(self.home, Path):
            return self.home
        raise click.UsageError(
            f"{why} needs a --home on this machine; {self.home} is on an object store"
        )


class FolderType(click.ParamType[Folder, str]):
    """A folder of this machine, or on an object store."""

    name = "folder"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> Folder:
        """The folder of a text; folders stay what they are."""
        if isinstance(value, Folder):
            return value
        try:
            folder = folder_of(value)
        except ValueError as error:
            self.fail(str(error), param, context)
        if isinstance(folder, Path) and folder.is_file():
            self.fail(f"{folder} is a file; name a folder", param, context)
        return folder


HOME = click.Option(
    ["--home"],
    type=FolderType(),
    default=DEFAULT_HOME,
    show_default=True,
    metavar="FOLDER",
    help="Where outbox, dead letters and parked messages are, and tables by default.",
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
        ["--catalog_uri"],
        default="",
        metavar="URI",
        help="Iceberg catalog, https://HOST/PATH or postgresql://USER@HOST/DB.  "
        "[default: a file in the home folder]",
    ),
    click.Option(
        ["--warehouse"],
        default="",
        metavar="LOCATION",
        help="Where the catalog's tables are: gs://BUCKET/PREFIX, s3://…, or its name for it.",
    ),
    click.Option(
        ["--catalog_property"],
        multiple=True,
        metavar="NAME=VALUE",
        help="Property of PyIceberg for the catalog or its files; more than once for several.",
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
        _check_catalog(parameters)
        return
    for name in ("catalog_uri", "warehouse", "catalog_property"):
        if parameters[name]:
            raise click.UsageError(f"--{name} is for --tables iceberg; drop one of them")
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


def _check_catalog(parameters: Mapping[str, Any]) -> None:
    uri, warehouse = parameters["catalog_uri"], parameters["warehouse"]
    pairs = dict(_pair(text) for text in parameters["catalog_property"])
    if uri and not _SCHEME.match(uri):
        raise click.UsageError("--catalog_uri is not of the form https://HOST/… or postgresql://…")
    if _PASSWORD.match(uri) or _PASSWORD.match(pairs.get("uri", "")):
        raise click.UsageError(
            "--catalog_uri: leave the password out, as command lines are seen by others; set "
            "PGPASSWORD in the environment, or write ~/.pgpass"
        )
    for name in pairs:
        if _SECRET.search(name):
            variable = name.upper().replace(".", "__").replace("-", "_")
            raise click.UsageError(
                f"--catalog_property {name}: command lines are seen by others; set "
                f"PYICEBERG_CATALOG__WEIGHBRIDGE__{variable} in the environment"
            )
    own = uri or "type" in pairs
    if not own and isinstance(parameters["home"], Address):
        raise click.UsageError(
            f"--home {parameters['home']} needs a --catalog_uri: the default catalog is a file of "
            "this machine"
        )
    if uri.startswith("postgres") and not warehouse:
        raise click.UsageError(
            "--catalog_uri of a database needs a --warehouse, such as gs://my-bucket/warehouse"
        )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError("--catalog_property is not of the form NAME=VALUE")
    return name.strip(), value
