"""What the graph and the commands ask of tables, whoever keeps them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.schema import Schema

from extractors import Extractor
from pipelines.address import Folder
from pipelines.files import FileRef, Written
from pipelines.outbox import Commit, Outbox
from pipelines.spans import Span
from pipelines.undelivered import Undelivered


class Counts(NamedTuple):
    """What a table is made of. None: these tables have no such thing."""

    rows: int
    files: int | None
    partitions: int
    snapshots: int | None


class Destination(Protocol):
    """Tables that hold each list of files once. Pickles; opens its clients on use.

    What a table refuses for good is raised as one of `pipelines.unwritten.REFUSALS`.

    Attributes:
        home: the home folder, where lists of files are kept that a table refuses.
    """

    home: Folder

    @property
    def at_once(self) -> int:
        """How many tables are worth committing or reading side by side."""
        ...

    def prepare(self, extractors: Iterable[Extractor]) -> list[str]:
        """Create and evolve the table of each extractor, and the platform's own.

        Returns:
            A line for each table that was created or changed.

        Raises:
            ConfigurationError: a row class that its table's rows do not fit, or no access.
        """
        ...

    def write_files(self, name: str, rows: pa.Table, max_rows: int | None = None) -> Written:
        """Write the rows as data files that a commit can name."""
        ...

    def unchecked(self) -> Destination:
        """The same, for rows whose table cannot be looked at: each commit checks once more."""
        ...

    def commit(self, name: str, files: Iterable[FileRef], outbox: Outbox) -> Commit:
        """Add files to a table once, however often this is called with the same ones.

        Args:
            name: full name of the table.
            files: what `write_files` gave.
            outbox: is told before the commit is made.
        """
        ...

    def replace(self, name: str, files: Iterable[FileRef], outbox: Outbox) -> Commit:
        """Like `commit`, in the place of all rows that the table holds of the files' envelopes."""
        ...

    def committed(self, name: str, entries: Iterable[str]) -> set[str]:
        """Of a table's entries in the outbox, those whose commit was made."""
        ...

    def names(self, namespace: str = ...) -> list[str]:
        """Full names of the tables in a namespace, in order. By default those of models."""
        ...

    def model_of(self, name: str) -> str:
        """The model whose table it is, "" if nobody knows."""
        ...

    def schema(self, name: str) -> pa.Schema:
        """The columns of a table, as `rows` can give them."""
        ...

    def size(self, name: str) -> tuple[int, int]:
        """How many rows a table has, and the bytes that they take."""
        ...

    def counted(self, names: Sequence[str]) -> list[Counts]:
        """What each of the tables is made of, copies of rows too."""
        ...

    def rows(self, name: str, schema: pa.Schema, *spans: Span) -> Iterator[pa.RecordBatch]:
        """Rows of a table, each once; none if it is not there.

        Args:
            name: its full name.
            schema: the columns that are read. One that the table lacks is null.
            spans: of these times; without any all rows.
        """
        ...

    def filterable(self, name: str) -> Schema:
        """The columns of a table that a row filter can name."""
        ...

    def matching(
        self, name: str, expression: BooleanExpression, columns: Sequence[str]
    ) -> pa.Table:
        """Rows that a filter means, in given columns.

        Args:
            name: full name of the table.
            expression: not bound to its columns; it fits them.
            columns: those that are read.
        """
        ...

    def some(self, name: str, most: int) -> pa.Table:
        """A few rows of a table, all columns, whichever are found first."""
        ...

    def held(self, name: str) -> list[FileRef]:
        """What a table holds, as its data files; or by days, where nobody knows these."""
        ...

    def as_files(self, name: str, found: Undelivered, settled: Collection[FileRef]) -> Undelivered:
        """What was never sent, as files that a push can open.

        Args:
            name: full name of the table.
            found: parts of what `held` gave.
            settled: files that were delivered, or wait in the outbox.
        """
        ...

    def open(self, path: str) -> Any:
        """A data file, as `pyarrow.parquet.ParquetFile` takes it.

        Raises:
            OSError: it cannot be read.
        """
        ...
