"""The catalog and its tables: opened by everyone, created and evolved by the launcher only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform

from extractors import Extractor, Extractors
from pipelines.address import Folder, is_path
from pipelines.catalog import CatalogAddress, at_launch, at_work, ensure_namespace
from pipelines.commit import ATTEMPTS, commit_files, read_ring
from pipelines.destination import Counts
from pipelines.erased import ErasedRows
from pipelines.evolution import changes, refusal, taken
from pipelines.files import (
    DATA,
    ORDER,
    FileRef,
    Written,
    first_of_each_row,
    place_of,
    write_days,
    write_files,
)
from pipelines.ledger import PLATFORM, SCHEMAS
from pipelines.objects import refusals
from pipelines.outbox import Commit, Outbox
from pipelines.rewrite import replace_rows
from pipelines.scan import columns_of, counts_of, model_of, scanned, size_of
from pipelines.spans import Span
from pipelines.store import Store
from pipelines.undelivered import Undelivered, live_files
from schemas.arrow import TIME

MODELS = "models"
LOCAL_COMMITS = 4
"""Half the time of one after another on two cores; more gain nothing, as SQLite takes turns."""
_PROPERTIES = {
    # PyIceberg's own retries rebase without asking for our token, and would duplicate.
    "commit.retry.num-retries": "0",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
}
# All that a place for files needs; its rows bring their own columns.
_ANY_ROWS = pa.schema([("event_time", TIME)])
MODEL = "weighbridge.model"
"""Property of a table: the model, which its name does not tell (`a-v2` or version 2 of `a`)."""


@dataclass
class Tables:
    """The Iceberg tables of a catalog. Pickles as addresses; opens its catalog on use.

    Args:
        home: the home folder.
        address: where the catalog is; by default it is in the home folder.
    """

    home: Folder
    address: CatalogAddress = CatalogAddress()
    _catalog: Catalog | None = field(default=None, repr=False, compare=False)
    _opened: dict[str, FileIO] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_catalog": None, "_opened": {}}

    @property
    def catalog(self) -> Catalog:
        """The catalog `weighbridge`."""
        if self._catalog is None:
            self._catalog = self.address.open(self.home)
        return self._catalog

    @property
    def at_once(self) -> int:
        """Some in the home folder, as a commit mostly waits for the disk.

        Elsewhere one, as clients of catalogs do not promise to be used by threads.
        """
        return LOCAL_COMMITS if self.address.is_file else 1

    @property
    def store(self) -> Store:
        """Where the tables' locks are; and without a catalog elsewhere, their files."""
        return Store(self.home / "tables")

    def load(self, name: str) -> Table:
        """The table in its current state.

        Raises:
            NoSuchTableError: there is none of that name.
        """
        for _ in range(5):
            try:
                return self._load(name)
            except FileNotFoundError:
                continue  # its metadata was replaced between the look-up and the read
        return self._load(name)

    def names(self, namespace: str = MODELS) -> list[str]:
        """Full names of the tables in a namespace, in order."""
        with at_launch(self.address), refusals():
            ensure_namespace(self.catalog, namespace)
            return sorted(".".join(name) for name in self.catalog.list_tables(namespace))

    def prepare(self, extractors: Iterable[Extractor]) -> list[str]:
        """Create and evolve the table of each extractor, and the platform's own.

        Returns:
            A line for each table that was created or changed.

        Raises:
            ConfigurationError: a row class that its table's rows do not fit, with the remedy; or a
                catalog or warehouse that refuses us or is not there.
        """
        with at_launch(self.address), refusals():
            for namespace in (MODELS, PLATFORM):
                ensure_namespace(self.catalog, namespace)
            lines = [
                self._prepare(table_of(extractor).name, extractor.shape().schema, extractor)
                for extractor in sorted(extractors, key=lambda extractor: extractor.table)
            ]
            lines += [self._prepare(name, schema) for name, schema in SCHEMAS.items()]
        return [line for line in lines if line]

    def write_files(self, name: str, rows: pa.Table, max_rows: int | None = None) -> Written:
        """Write the rows of envelopes that the table does not have."""
        with at_work(), refusals():
            erased = ErasedRows.of(self.store, name)
            return write_files(self.load(name), rows, max_rows, erased=erased)

    def unchecked(self) -> Tables:
        """Each table as it would be created: a place for files, whether or not it is there."""
        return _EmptyTables(self.home, self.address)

    def commit(self, name: str, files: Iterable[FileRef], outbox: Outbox) -> Commit:
        """Add files to a table once, in one transaction."""
        with at_work(), refusals():
            return commit_files(self, name, files, outbox)

    def replace(self, name: str, files: Iterable[FileRef], outbox: Outbox) -> Commit:
        """Put rows in the place of what a table holds of their envelopes."""
        with at_work(), refusals():
            return replace_rows(self, name, files, outbox)

    def committed(self, name: str, entries: Iterable[str]) -> set[str]:
        """Of a table's entries in the outbox, those that its ring names.

        Raises:
            NoSuchTableError: the table is gone.
        """
        with at_work(), refusals():
            return set(entries) & set(read_ring(self.load(name)))

    def model_of(self, name: str) -> str:
        """Whose table it is; "" if neither it nor its rows say."""
        table = self.load(name)
        return table.properties.get(MODEL) or model_of(table)

    def schema(self, name: str) -> pa.Schema:
        """The columns of a table."""
        return columns_of(self.load(name))

    def size(self, name: str) -> tuple[int, int]:
        """Rows of a table, and bytes of its data files."""
        return size_of(self.load(name))

    def counted(self, names: Sequence[str]) -> list[Counts]:
        """What each of the tables is made of."""
        return [counts_of(self.load(name)) for name in names]

    def rows(self, name: str, schema: pa.Schema, *spans: Span) -> Iterator[pa.RecordBatch]:
        """Rows in any of the spans, each once."""
        try:
            table = self.load(name)
        except NoSuchTableError:
            return
        yield from scanned(table, schema, *spans)

    def filterable(self, name: str) -> Schema:
        """The columns of a table."""
        return self.load(name).schema()

    def matching(
        self, name: str, expression: BooleanExpression, columns: Sequence[str]
    ) -> pa.Table:
        """Rows that a filter means."""
        return self.load(name).scan(expression, selected_fields=tuple(columns)).to_arrow()

    def some(self, name: str, most: int) -> pa.Table:
        """A few rows of a table."""
        return self.load(name).scan(limit=most).to_arrow()

    def held(self, name: str) -> list[FileRef]:
        """The data files of a table; none if it was never made."""
        try:
            return list(live_files(self.load(name)))
        except NoSuchTableError:
            return []

    def as_files(self, name: str, found: Undelivered, settled: Collection[FileRef]) -> Undelivered:
        """The same: they are files."""
        return found

    def open(self, path: str) -> Any:
        """A data file; of this machine PyArrow takes the path."""
        if is_path(path):
            return path
        ours = (io for location, io in self._opened.items() if path.startswith(f"{location}/"))
        io = next(ours, None) or load_file_io(self.catalog.properties, path)
        with refusals():
            return io.new_input(path).open()

    def _load(self, name: str) -> Table:
        table = self.catalog.load_table(name)
        # A catalog may lend each table credentials of its own, for a time.
        self._opened[table.location()] = table.io
        return table

    def _prepare(self, name: str, schema: pa.Schema, extractor: Extractor | None = None) -> str:
        try:
            table = self.load(name)
        except NoSuchTableError:
            try:
                self._create(name, schema, extractor)
            except (TableAlreadyExistsError, CommitFailedException):  # another launcher's
                return self._prepare(name, schema, extractor)
            return f"created table {name}"
        return _evolve(table, name, schema, extractor)

    def _create(self, name: str, schema: pa.Schema, extractor: Extractor | None) -> None:
        own = {MODEL: extractor.model_id} if extractor else {}
        create = self.catalog.create_table_transaction(
            name, schema, properties={**_PROPERTIES, **own}
        )
        with create, create.update_spec() as spec:
            spec.add_field("event_time", DayTransform(), "event_day")


class _EmptyTables(Tables):
    def write_files(self, name: str, rows: pa.Table, max_rows: int | None = None) -> Written:
        rows, copies = first_of_each_row(rows.sort_by(ORDER))
        rows = ErasedRows.of(self.store, name).without(rows)
        with at_work(), refusals():
            place = place_of(self._place(name))
            return Written(list(write_days(place, DATA, rows, 0, max_rows)), copies)

    def _place(self, name: str) -> Table:
        try:
            return self.catalog.create_table_transaction(name, _ANY_ROWS)._table  # never committed
        except TableAlreadyExistsError:  # a REST catalog looks
            return self.load(name)


class RowTable(NamedTuple):
    """A table that rows go to: its full name, and whether they go on to Arize."""

    name: str
    pushed: bool = False

    @property
    def metrics(self) -> str:
        """Namespace of its counters: the short name of a model's table, which is never dotted."""
        return metrics_of(self.name)


def table_of(extractor: Extractor) -> RowTable:
    """The table of an extractor."""
    return RowTable(f"{MODELS}.{extractor.table}", extractor.pushed)


def tables_of(extractor: Extractor) -> list[str]:
    """Full names of its table in each version, the latest one last."""
    return [f"{MODELS}.{name}" for name in extractor.tables]


def pushed_tables(extractors: Extractors) -> dict[str, Extractor]:
    """Whose each table is that is pushed. Earlier versions of a table may have undelivered rows."""
    pushed = [item for item in extractors.values() if item.pushed]
    earlier = {name: item for item in pushed for name in tables_of(item)}
    return {**earlier, **{table_of(item).name: item for item in pushed}}


def is_of_model(name: str) -> bool:
    """Whether a table is a model's, and not the platform's own."""
    return name.startswith(f"{MODELS}.")


def metrics_of(name: str) -> str:
    """Namespace of the counters of a table."""
    return name.removeprefix(f"{MODELS}.")


def _evolve(table: Table, name: str, schema: pa.Schema, extractor: Extractor | None) -> str:
    if extractor is not None:
        _check_owner(table, name, extractor)
    for _ in range(ATTEMPTS):
        needed = changes(schema_to_pyarrow(table.schema()), schema)
        if not needed:
            return ""
        for change in needed:
            if not change.allowed:
                raise refusal(name, change.path, change.old, change.new, extractor)
        try:
            with table.update_schema() as update:
                update.union_by_name(schema)
        except CommitFailedException:
            table.refresh()  # another launcher was faster
            continue
        return f"changed table {name}: {', '.join(map(str, needed))}"
    raise CommitFailedException(f"{name}: {ATTEMPTS} conflicts in a row")


def _check_owner(table: Table, name: str, extractor: Extractor) -> None:
    owner = table.properties.get(MODEL, extractor.model_id)
    if owner != extractor.model_id:
        raise taken(name, owner, extractor)
