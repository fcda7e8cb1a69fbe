"""Tables of a dataset, as the graph asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import google.cloud.bigquery as bigquery
import pyarrow as pa

from extractors import Extractor
from pipelines.address import Folder
from pipelines.bigquery.access import at_work, bigquery_client
from pipelines.bigquery.load import is_loaded, job_id_of, load_once
from pipelines.bigquery.names import Dataset, table_id
from pipelines.bigquery.prepare import prepare_dataset
from pipelines.bigquery.quota import check_interval
from pipelines.bigquery.schema import without_maps
from pipelines.bigquery.staging import Staging
from pipelines.commit import token_of
from pipelines.files import DATA, ORDER, FileRef, Written, first_of_each_row, write_days
from pipelines.ledger import SCHEMAS
from pipelines.outbox import Commit, Outbox
from pipelines.place import Place
from schemas import ConfigurationError


def bigquery_tables(place: Place) -> BigQueryTables:
    """The tables that a place names."""
    return BigQueryTables(
        place.home,
        Dataset.parse(place.dataset),
        Staging(place.staging.rstrip("/")),
        place.interval,
    )


@dataclass
class BigQueryTables:
    """A `Destination`: the tables of a dataset. Pickles; opens its client on use.

    Args:
        home: the home folder.
        dataset: where the tables are.
        staging: where their files wait.
        interval: seconds from commit to commit, for runs without end.
    """

    home: Folder
    dataset: Dataset
    staging: Staging
    interval: float | None = None
    _client: bigquery.Client | None = field(default=None, repr=False, compare=False)
    _loaded: dict[str, set[str]] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_client": None, "_loaded": {}}

    @property
    def commits_at_once(self) -> int:
        """Many: a commit is waiting for a job, for seconds at least."""
        return 16

    @property
    def client(self) -> bigquery.Client:
        """For the dataset's project and location."""
        if self._client is None:
            self._client = bigquery_client(self.dataset.project)
        return self._client

    def prepare(self, extractors: Iterable[Extractor]) -> list[str]:
        """Create and evolve the tables and their views, once dataset and bucket were found."""
        found = list(extractors)
        if self.interval is not None:
            check_interval(self.interval, len(found) + len(SCHEMAS))
        lines = prepare_dataset(self.client, self.dataset, found)
        self.staging.check()
        return lines

    def write_files(self, name: str, rows: pa.Table, max_rows: int | None = None) -> Written:
        """Stage the rows, without a look at what the table has: its view shows each once."""
        rows, copies = first_of_each_row(without_maps(rows).sort_by(ORDER))
        return Written(
            list(write_days(self.staging, f"{table_id(name)}/{DATA}", rows, 0, max_rows)), copies
        )

    def unchecked(self) -> BigQueryTables:
        """The same: nothing is looked at."""
        return self

    def commit(self, name: str, files: Iterable[FileRef], outbox: Outbox) -> Commit:
        """Load the files by one job, whose id is their token. See `load_once` for its errors."""
        asked = sorted(set(files), key=lambda ref: ref.path)
        token = token_of(asked)
        with at_work(self.dataset.table(name)):
            table = self.client.get_table(self.dataset.table(name))
        entry = job_id_of(table, token)
        result = Commit(token, entry, name, tuple(asked))
        uris = [ref.path for ref in asked]
        if not load_once(self.client, table, entry, uris, lambda: outbox.put(result)):
            return Commit(token, entry, name, ())
        if not outbox.holds(entry):
            outbox.put(result)  # we waited so long that the entry was taken for a failed one
        return result

    def replace(self, name: str, files: Iterable[FileRef], outbox: Outbox) -> Commit:
        """Not possible: a load job adds rows only."""
        raise ConfigurationError("rows in BigQuery are not rewritten yet")

    def committed(self, name: str, entries: Iterable[str]) -> set[str]:
        """The entries whose load job succeeded. Of one that did, BigQuery is asked once."""
        asked = set(entries)
        loaded = asked & self._loaded.get(name, set())
        if new := asked - loaded:
            with at_work(self.dataset.table(name)):
                location = self.client.get_table(self.dataset.table(name)).location
            loaded |= {entry for entry in new if is_loaded(self.client, entry, location)}
        self._loaded[name] = loaded  # without those that were delivered
        return loaded

    def open(self, path: str) -> pa.BufferReader:
        """A staged data file."""
        return self.staging.open(path)
