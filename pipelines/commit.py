"""One transaction per table and run: data files and their token, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from pipelines.address import location_of
from pipelines.catalog import UNSETTLED, wait_to_retry
from pipelines.erased import ErasedRows
from pipelines.files import FileRef, without_known
from pipelines.outbox import Commit, Outbox
from pipelines.snapshots import Change, FilesGoneError, add_snapshot

if TYPE_CHECKING:
    from pipelines.tables import Tables

RING = "weighbridge.tokens"
RING_LENGTH = 500
ATTEMPTS = 200


class Plan(NamedTuple):
    """What is to become of a table.

    Attributes:
        new: files of what was asked for, maybe written anew; none is nothing to do.
        kept: files of other rows, from the files that go.
        gone: locations of live files of the table.
    """

    new: list[FileRef]
    kept: Sequence[FileRef] = ()
    gone: Sequence[str] = ()

    def with_ring(self, ring: list[str]) -> Change:
        """The snapshot that makes it so."""
        operation = Operation.OVERWRITE if self.gone else Operation.APPEND
        added = [location_of(ref.path) for ref in (*self.kept, *self.new)]
        return Change(operation, added, self.gone, {RING: ",".join(ring)})


def commit_files(
    tables: Tables,
    name: str,
    files: Iterable[FileRef],
    outbox: Outbox,
    ring_length: int = RING_LENGTH,
) -> Commit:
    """Add files to a table; those of envelopes that it has got meanwhile are written anew.

    Args and errors as of `commit_once`.
    """

    def plan(table: Table, asked: list[FileRef]) -> Plan:
        return Plan(without_known(table, asked, ErasedRows.of(tables.store, name)))

    return commit_once(tables, name, files, outbox, plan, ring_length)


def commit_once(
    tables: Tables,
    name: str,
    files: Iterable[FileRef],
    outbox: Outbox,
    plan: Callable[[Table, list[FileRef]], Plan],
    ring_length: int = RING_LENGTH,
    anew: bool = False,
) -> Commit:
    """Change a table once, however often this is called with the same files.

    The token of what was asked for is kept in a ring in a table property, changed only together
    with the snapshot that it goes with.

    Args:
        tables: the tables.
        name: full name of the table.
        files: what is asked for.
        outbox: is told of the new rows before the transaction.
        plan: what the files come to, given the table as it is; asked anew after each conflict.
        ring_length: how many tokens the table keeps.
        anew: whether what was committed before, and is not in the table any more, is again.

    Raises:
        CommitFailedException: other writers were faster `ATTEMPTS` times in a row.
    """
    asked = sorted(set(files), key=lambda ref: ref.path)
    token = token_of(asked)
    announced = ""
    # For speed only: without the lock writers lose, write anew and starve, but duplicate nothing.
    with tables.store.locked(f"locks/{name}"):
        for attempt in range(ATTEMPTS):
            table = tables.load(name)
            ring = read_ring(table)
            known = [entry for entry in ring if entry.partition(".")[0] == token]
            planned = plan(table, asked) if anew or not known else Plan([])
            if known and not planned.new:
                if announced not in ("", *known):
                    outbox.remove(announced)  # a twin with our token went first
                return Commit(token, known[-1], name, ())
            same = {ref.path for ref in planned.new} == {ref.path for ref in asked}
            entry = token if same else f"{token}.{token_of(planned.new)}"
            if known:
                # That of before counts already, and the ring may have lost some.
                entry = f"{entry}.{table.metadata.next_sequence_number()}"
            if announced not in ("", entry):
                outbox.remove(announced)  # nobody can commit that list any more
            if not planned.new:
                return Commit(token, "", name, ())
            result = Commit(token, entry, name, tuple(planned.new))
            outbox.put(result)
            announced = entry
            try:
                add_snapshot(table, planned.with_ring(next_ring(ring, entry, outbox, ring_length)))
            except (*UNSETTLED, FilesGoneError) as error:
                wait_to_retry(error, attempt)
                continue
            if not outbox.holds(entry):
                outbox.put(result)  # we slept so long that the entry was taken for a failed one
            return result
    raise CommitFailedException(f"{name}: {ATTEMPTS} conflicts in a row")


def read_ring(table: Table) -> list[str]:
    """Entries of the table's latest commits, oldest first."""
    return [entry for entry in table.properties.get(RING, "").split(",") if entry]


def next_ring(ring: list[str], entry: str, outbox: Outbox, length: int) -> list[str]:
    """The ring with one more entry, and without the oldest that are delivered."""
    ring = [*ring, entry]
    excess = len(ring) - length
    if excess <= 0:
        return ring
    pending = outbox.entries()  # a token is never forgotten before its rows are delivered
    return [old for i, old in enumerate(ring) if i >= excess or old in pending]


def token_of(files: Iterable[FileRef]) -> str:
    """The token of a list of files, in any order."""
    names = sorted({PurePath(ref.path).name for ref in files})
    return blake2b("\n".join(names).encode(), digest_size=8).hexdigest()
