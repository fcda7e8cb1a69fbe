"""The catalog in a home folder: SQLite, and a process reads each version of metadata once.

Reading it takes milliseconds, and the parts of a run, each with a catalog of its own, look at each
table four times. A file of metadata never changes; which one is current the catalog is asked each
time.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.io import FileIO
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import Identifier
from sqlalchemy import bindparam, select

KEPT = 1000
"""Tables whose metadata is kept: 23 columns and 20 snapshots take 124 kB of memory."""
_LOCATION = select(IcebergTables.metadata_location).where(
    IcebergTables.catalog_name == bindparam("catalog"),
    IcebergTables.table_namespace == bindparam("namespace"),
    IcebergTables.table_name == bindparam("table"),
)


class _Version(NamedTuple):
    location: str
    metadata: TableMetadata
    io: FileIO


_seen: dict[tuple[str, Identifier], _Version] = {}
"""By the catalog's address and the table's name, whichever object asks."""
# A fork must not use its parent's connections, which an `io` has where a warehouse is elsewhere.
os.register_at_fork(after_in_child=_seen.clear)


class LocalCatalog(SqlCatalog):
    """PyIceberg's SQL catalog. Processes and threads see each other's commits, as with that."""

    def load_table(self, identifier: str | Identifier) -> Table:
        """The table in its current state.

        Raises:
            NoSuchTableError: there is none of that name.
        """
        key = Catalog.identifier_to_tuple(identifier)
        seen = _seen.get((self._address, key))
        if seen is None or seen.location != self._current(key):
            seen = self._remember(super().load_table(identifier))
        # Of its own, as a `Table` is changed by its transactions. What it is made of never is.
        return Table(key, seen.metadata, seen.location, seen.io, self)

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

    @property
    def _address(self) -> str:
        return str(self.properties["uri"])

    def _current(self, key: Identifier) -> Any:
        names = {
            "catalog": self.name,
            "namespace": Catalog.namespace_to_string(Catalog.namespace_from(key)),
            "table": Catalog.table_name_from(key),
        }
        with self.engine.connect() as connection:
            return connection.execute(_LOCATION, names).scalar()

    def _remember(self, table: Table) -> _Version:
        key = self._address, table.name()
        if len(_seen) >= KEPT and key not in _seen:
            # The newest: tables are gone through in order, and the oldest is the next one.
            _seen.popitem()
        found = _Version(table.metadata_location, table.metadata, table.io)
        _seen[key] = found
        return found
