"""The step that commits: each table's files at once, and the same ones whenever it is repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from pipelines.destination import Destination
from pipelines.files import FileRef
from pipelines.metrics import counter
from pipelines.outbox import Commit, Outbox
from pipelines.stable import Stabilize
from pipelines.tables import is_of_model, metrics_of

CommitList = Callable[[Destination, str, list[FileRef], Outbox], Commit | None]
"""Such as `commit_now`; None where nothing was committed and nothing is to be pushed."""


def commit_now(tables: Destination, name: str, files: list[FileRef], outbox: Outbox) -> Commit:
    """Commit a list of files; what the tables refuse fails the bundle."""
    return tables.commit(name, files, outbox)


def replace_now(tables: Destination, name: str, files: list[FileRef], outbox: Outbox) -> Commit:
    """Like `commit_now`, in the place of what a model's table holds of the same envelopes."""
    commit = tables.replace if is_of_model(name) else tables.commit
    return commit(name, files, outbox)


class CommitFiles(beam.PTransform[Any, Any]):
    """Commits each table's files in one transaction. Out: full names of tables, also when skipped.

    In: (table name, file reference as JSON). The second grouping makes the list of a commit stable:
    a retried bundle may otherwise see more files, and commit some of them twice.

    Args:
        tables: the tables.
        outboxes: the outbox of each table that is pushed.
        commit: commits a list of files; pickles.
    """

    def __init__(
        self,
        tables: Destination,
        outboxes: Mapping[str, Outbox],
        commit: CommitList = commit_now,
    ) -> None:
        super().__init__()
        self._fn = _CommitFn(tables, outboxes, commit)

    def expand(self, files: Any) -> Any:
        """Group by table, fix the groups, commit."""
        return (
            files
            | "GroupFiles" >> beam.GroupByKey()
            | "SortFiles" >> beam.MapTuple(_sorted).with_output_types(tuple[str, list[str]])
            # Keyed: `beam.Reshuffle()` could run two commits of one table at once.
            | "StableCommit" >> Stabilize()
            | "Commit" >> beam.ParDo(self._fn)
        )


class _CommitFn(beam.DoFn):
    def __init__(
        self, tables: Destination, outboxes: Mapping[str, Outbox], commit: CommitList
    ) -> None:
        self._tables = tables
        self._outboxes = dict(outboxes)
        self._commit = commit

    def process(self, group: tuple[str, list[str]]) -> Iterator[str]:
        name, files = group
        refs = [FileRef.from_json(ref) for ref in files]
        outbox = self._outboxes.get(name, Outbox(None))
        done = self._commit(self._tables, name, refs, outbox)
        if done is not None:
            counter(metrics_of(name), "rows_written").inc(sum(ref.rows for ref in done.files))
            yield name


def _sorted(name: str, files: Iterable[str]) -> tuple[str, list[str]]:
    return name, sorted(set(files))
