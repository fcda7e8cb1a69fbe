"""Tables of a dataset, as the graph asks for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import google.cloud.bigquery as bigquery
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.schema import Schema

from extractors import Extractor
from pipelines.address import Folder
from pipelines.bigquery.access import at_work, bigquery_client, dataset_needed
from pipelines.bigquery.cleaned import CleanPlace, cleaned
from pipelines.bigquery.days import as_files, held_days
from pipelines.bigquery.filter import condition, filterable
from pipelines.bigquery.load import is_loaded, job_id_of, load_once
from pipelines.bigquery.names import Dataset, table_id, table_name
from pipelines.bigquery.prepare import prepare_dataset
from pipelines.bigquery.quota import check_interval
from pipelines.bigquery.replace import replace_rows
from pipelines.bigquery.rows import Query
from pipelines.bigquery.schema import without_maps
from pipelines.bigquery.staging import Staging
from pipelines.commit import token_of
from pipelines.destination import Counts
from pipelines.erased import ErasedRows
from pipelines.files import DATA, ORDER, FileRef, Written, first_of_each_row, write_days
from pipelines.ledger import SCHEMAS
from pipelines.outbox import Commit, Outbox
from pipelines.place import Place
from pipelines.spans import Span
from pipelines.store import Store
from pipelines.tables import MODELS
from pipelines.undelivered import Undelivered


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
    _query: Query | None = field(default=None, repr=False, compare=False)
    _loaded: dict[str, set[str]] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_client": None, "_query": None, "_loaded": {}}

    @property
    def at_once(self) -> int:
        """Many: a commit is waiting for a job, for seconds at least."""
        return 16

    @property
    def store(self) -> Store:
        """Where it is noted which rows were erased."""
        return Store(self.home / "tables")

    @property
    def client(self) -> bigquery.Client:
        """For the dataset's project and location."""
        if self._client is None:
            self._client = bigquery_client(self.dataset.project)
        return self._client

    @property
    def query(self) -> Query:
        """Asks the dataset, where it is."""
        if self._query is None:
            with dataset_needed(self.dataset):
                location = self.client.get_dataset(str(self.dataset)).location
            self._query = Query(self.client, self.dataset, location)
        return self._query

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
        place = CleanPlace(self.staging, ErasedRows.of(self.store, name))
        return Written(
            list(write_days(place, f"{table_id(name)}/{DATA}", rows, 0, max_rows)), copies
        )

    def unchecked(self) -> BigQueryTables:
        """The same: nothing is looked at."""
        return self

    def commit(self, name: str, files: Iterable[FileRef], outbox: Outbox) -> Commit:
        """Load the files by one job, whose id is their token. See `load_once` for its errors."""
        table = self.table(name)
        token, kept = self._asked(name, files)
        entry = job_id_of(table, token)
        result = Commit(token, entry, name, tuple(kept))
        uris = [ref.path for ref in kept]
        if not uris or not load_once(self.client, table, entry, uris, lambda: outbox.put(result)):
            return Commit(token, entry, name, ())
        if not outbox.holds(entry):
            outbox.put(result)  # we waited so long that the entry was taken for a failed one
        return result

    def replace(self, name: str, files: Iterable[FileRef], outbox: Outbox) -> Commit:
        """Put rows in the place of those of their envelopes, by one statement of its own."""
        token, kept = self._asked(name, files)
        done = Commit(token, "", name, ())

        def announce(entry: str) -> None:
            nonlocal done
            done = Commit(token, entry, name, tuple(kept))
            outbox.put(done)

        if kept:
            replace_rows(self.client, self.table(name), token, kept, announce)
        return done

    def committed(self, name: str, entries: Iterable[str]) -> set[str]:
        """The entries whose load job succeeded. Of one that did, BigQuery is asked once."""
        asked = set(entries)
        loaded = asked & self._loaded.get(name, set())
        if new := asked - loaded:
            location = self.table(name).location
            loaded |= {entry for entry in new if is_loaded(self.client, entry, location)}
        self._loaded[name] = loaded  # without those that were delivered
        return loaded

    def names(self, namespace: str = MODELS) -> list[str]:
        """Full names of the tables in a namespace, and not of views. Others' are among them.

        Raises:
            ConfigurationError: no dataset or no access.
        """
        with dataset_needed(self.dataset):
            # A dataset that is not there would list no tables.
            self.client.get_dataset(str(self.dataset))
            found = list(self.client.list_tables(str(self.dataset)))
        names = (table_name(item.table_id) for item in found if item.table_type == "TABLE")
        return sorted(name for name in names if name.startswith(f"{namespace}."))

    def model_of(self, name: str) -> str:
        """Whose table it is by its label; "" for the platform's own, and for those of others."""
        return str(self.table(name).labels.get("model", ""))

    def schema(self, name: str) -> pa.Schema:
        """The columns of a table."""
        return pa.schema([item.remove_metadata() for item in self.some(name, 1).schema])

    def size(self, name: str) -> tuple[int, int]:
        """Rows of a table, copies too, and the bytes that BigQuery counts for them."""
        table = self.table(name)
        return int(table.num_rows or 0), int(table.num_bytes or 0)

    def counted(self, names: Sequence[str]) -> list[Counts]:
        """Rows and days of each of the tables, by a query for some hundred of them."""
        found = self.query.counted([table_id(name) for name in names])
        zero = (0, 0)
        counts = (found.get(table_id(name), zero) for name in names)
        return [Counts(rows, None, days, None) for rows, days in counts]

    def rows(self, name: str, schema: pa.Schema, *spans: Span) -> Iterator[pa.RecordBatch]:
        """Rows in any of the spans, each once: by a query, which costs what it reads."""
        try:
            table = self.table(name)
        except FileNotFoundError:
            return
        yield from self.query.rows(table, schema, spans)

    def filterable(self, name: str) -> Schema:
        """The columns of a table with one value each, and of records in it."""
        return filterable(self.table(name).schema)

    def matching(
        self, name: str, expression: BooleanExpression, columns: Sequence[str]
    ) -> pa.Table:
        """Rows that a filter means, each once; its values are parameters of a query."""
        table = self.table(name)
        wanted = condition(filterable(table.schema), expression)
        batches = list(self.query.matching(table, columns, wanted))
        schema = pa.schema([item for item in self.schema(name) if item.name in columns])
        return pa.Table.from_batches(batches, None if batches else schema)

    def some(self, name: str, most: int) -> pa.Table:
        """A few rows of a table, copies too, without a query: it costs nothing."""
        with at_work(self.dataset.table(name)):
            found = self.client.list_rows(self.dataset.table(name), max_results=most)
            return found.to_arrow(create_bqstorage_client=False)

    def held(self, name: str) -> list[FileRef]:
        """The days of a table, in the place of files."""
        return held_days(self.query, table_id(name), self.staging.path(table_id(name)))

    def as_files(self, name: str, found: Undelivered, settled: Collection[FileRef]) -> Undelivered:
        """Staged files of what was not sent of days: see `days.as_files`."""
        if not found.rows:
            return found
        schema = self.schema(name)
        return as_files(
            found,
            settled,
            lambda span: self.rows(name, schema, span),
            self.open,
            lambda rows: self.write_files(name, rows).files,
        )

    def _asked(self, name: str, files: Iterable[FileRef]) -> tuple[str, list[FileRef]]:
        """The token of files, and those that hold rows, without any that was erased since."""
        asked = sorted(set(files), key=lambda ref: ref.path)
        erased = ErasedRows.of(self.store, name)
        kept = [cleaned(self.staging, ref, erased) for ref in asked]
        return token_of(asked), [ref for ref in kept if ref.rows]

    def table(self, name: str) -> bigquery.Table:
        """What BigQuery says of a table.

        Raises:
            FileNotFoundError, PermissionError: it is not there, or not for us.
        """
        with at_work(self.dataset.table(name)):
            return self.client.get_table(self.dataset.table(name))

    def open(self, path: str) -> pa.BufferReader:
        """A staged data file."""
        return self.staging.open(path)
