"""Tables and a home that workers of other machines reach, and what a job left there.

All of it is on this machine. The launcher goes by names, and refuses those that mean it.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalogs import rest_server
from google_emulators import BUCKET, GoogleEmulators
from support import Home, environment

from pipelines.address import Address
from pipelines.catalog import CatalogAddress
from pipelines.store import Store
from pipelines.tables import Tables
from weighbridge.archive import Message, read_archive

Rows = list[dict[str, Any]]


@dataclass
class Elsewhere:
    """Where a job writes.

    Attributes:
        home: on an object store.
        place: what names home and tables to a command.
        table: the rows of a table, by its full name.
        environment: what leads a process there.
    """

    home: Address
    place: list[str]
    table: Callable[[str], Rows]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        return [f"--home={self.home}", *self.place, "--no_arize"]

    def rows(self, table: str) -> Rows:
        return comparable(self.table(table))

    def stored(self, folder: str) -> list[Message]:
        store = Store(self.home)
        found: list[Message] = []
        for name in store.names(folder, ".avro"):
            found += read_archive(io.BytesIO(store.read(name)))
        return sorted(found, key=lambda message: message.message_id)

    def check(self, home: Home, *tables: str) -> None:
        """That tables, dead letters and parked envelopes are those of a run on this machine."""
        own = (f"weighbridge.{name}" for name in ("failures", "parked", "skipped"))
        for table in (*tables, *own):
            namespace, _, name = table.partition(".")
            assert self.rows(table) == comparable(home.rows(name, namespace)) != []
        for name in ("failures", "parked"):
            ours = sorted(home.stored(name), key=lambda message: message.message_id)
            assert self.stored(name) == ours != []


def comparable(rows: Rows) -> Rows:
    """Without the file of a dead letter: a stream shares messages out to others."""
    kept = [{k: v for k, v in row.items() if k not in ("file", "position")} for row in rows]
    return sorted(kept, key=lambda row: str(row["row_id"]))


def named(uri: str) -> str:
    """The address of a server of this machine by the machine's name, which may be another's."""
    return uri.replace("127.0.0.1", socket.gethostname())


@contextmanager
def in_rest_catalog(bucket: str, folder: Path) -> Iterator[Elsewhere]:
    """Iceberg tables in a REST catalog, their files and the home in a bucket.

    Raises:
        NotInstalled: the catalog's server is not.
    """
    settings = {
        "CATALOG_IO__IMPL": "org.apache.iceberg.gcp.gcs.GCSFileIO",
        "CATALOG_GCS_SERVICE_HOST": os.environ["STORAGE_EMULATOR_HOST"],
        "CATALOG_GCS_NO__AUTH": "true",
        "CATALOG_WAREHOUSE": f"{bucket}/{folder.name}/tables",
    }
    with rest_server(folder, **settings) as uri:
        yield _in_catalog(named(uri), bucket, folder)


@contextmanager
def in_postgres(uri: str, bucket: str, folder: Path) -> Iterator[Elsewhere]:
    """Iceberg tables in a catalog of a PostgreSQL server, their files and the home in a bucket."""
    yield _in_catalog(named(uri), bucket, folder)


def _in_catalog(uri: str, bucket: str, folder: Path) -> Elsewhere:
    home, warehouse = (f"{bucket}/{folder.name}/{name}" for name in ("home", "tables"))
    tables = Tables(Address(home), CatalogAddress(uri, warehouse))
    return Elsewhere(
        Address(home),
        [f"--catalog_uri={uri}", f"--warehouse={warehouse}"],
        lambda name: tables.load(name).scan().to_arrow().to_pylist(),
    )


@contextmanager
def in_bigquery(google: GoogleEmulators, folder: Path) -> Iterator[Elsewhere]:
    """Tables in a dataset of an emulator of BigQuery, the home in a bucket of Cloud Storage's."""
    from pipelines.bigquery.names import Dataset, view_id

    dataset = google.dataset()
    bucket = f"gs://{BUCKET}/{folder.name}"
    place = ["--tables=bigquery", f"--dataset={dataset}", f"--staging={bucket}/loads"]
    with environment(**google.environment):
        yield Elsewhere(
            Address(f"{bucket}/home"),
            place,
            # What Pub/Sub has delivered twice is once in the view.
            lambda name: google.rows(f"{Dataset.parse(dataset)}.{view_id(name)}"),
            google.environment,
        )
