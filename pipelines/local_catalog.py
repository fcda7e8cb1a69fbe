"""The catalog in a home folder: SQLite, and each version of a table's metadata is read once.

Reading it takes milliseconds, and a run looks at each of its tables four times. A file of metadata
never changes; which one is current the catalog is asked each time.
"""

from __future__ import annotations

from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import Identifier
from sqlalchemy import select

KEPT = 1000
"""Tables whose metadata is kept: 23 columns and 20 snapshots take 124 kB of memory."""


class LocalCatalog(SqlCatalog):
    """PyIceberg's SQL catalog. Processes and threads see each other's commits, as with that."""

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        self._seen: dict[Identifier, Table] = {}

    def load_table(self, identifier: str | Identifier) -> Table:
        """The table in its current state.

        Raises:
            NoSuchTableError: there is none of that name.
        """
        key = Catalog.identifier_to_tuple(identifier)
        seen = self._seen.get(key)
        if seen is None or seen.metadata_location != self._current(key):
            return self._remember(super().load_table(identifier))
        # Of its own, as a `Table` is changed by its transactions. What it is made of never is.
        return Table(key, seen.metadata, seen.metadata_location, seen.io, self)

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        """Make a commit, and keep what it made of the metadata. Errors as of `SqlCatalog`."""
        done = super().commit_table(table, requirements, updates)
        self._remember(Table(table.name(), done.metadata, done.metadata_location, table.io, self))
        return done

    def _current(self, key: Identifier) -> Any:
        namespace = Catalog.namespace_to_string(Catalog.namespace_from(key))
        query = select(IcebergTables.metadata_location).where(
            IcebergTables.catalog_name == self.name,
            IcebergTables.table_namespace == namespace,
            IcebergTables.table_name == Catalog.table_name_from(key),
        )
        with self.engine.connect() as connection:
            return connection.execute(query).scalar()

    def _remember(self, table: Table) -> Table:
        key = table.name()
        if len(self._seen) >= KEPT and key not in self._seen:
            # The newest: tables are gone through in order, and the oldest is the next one.
            self._seen.popitem()
        self._seen[key] = Table(key, table.metadata, table.metadata_location, table.io, self)
        return table
