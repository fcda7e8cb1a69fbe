"""One batch on this machine: files in, one commit for each table out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from extractors import Extractors
from pipelines.batches import InputFile, shares
from pipelines.committer import commit_now, replace_now
from pipelines.files import FileRef
from pipelines.graph import outboxes
from pipelines.local import Extraction, LocalGraph
from pipelines.metrics import Counts, merge
from pipelines.options import RunOptions
from pipelines.outbox import Commit, Outbox
from pipelines.store import Store
from pipelines.stuck import stuck
from pipelines.tables import metrics_of
from pipelines.workers import WorkerFailed, Workers


class BatchRunner:
    """Runs batches one after another.

    To be entered before anything starts a thread, if `forked`.

    Args:
        extractors: what `load_extractors` gave.
        options: those of the run; `workers` says how many processes share a batch.
        forked: whether batches are extracted in processes of their own.
    """

    def __init__(self, extractors: Extractors, options: RunOptions, forked: bool) -> None:
        self._graph = LocalGraph(extractors, options)
        self._count = options.workers
        self._store = Store(options.home)
        self._tables = options.open()
        self._commit_list = replace_now if options.rewrite else commit_now
        self._outboxes = outboxes(extractors, options)
        self._workers: Workers[list[str], Extraction] | None = (
            Workers(self._graph) if forked else None
        )

    def __enter__(self) -> BatchRunner:
        if self._workers is not None:
            self._workers.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._workers is not None:
            self._workers.__exit__(kind, error, trace)

    def run(self, files: Sequence[InputFile]) -> Counts:
        """Add what is missing of a batch, and give what was counted. Errors as of `extract`."""
        return self.commit(self.extract(files))

    def extract(self, files: Sequence[InputFile]) -> list[Extraction]:
        """Write the data files of a batch.

        Raises:
            WorkerFailed: a forked worker did not finish; nothing is committed.
            WorkersGone: nor will another.
        """
        parts = shares(files, self._count)
        if self._workers is None:
            return [self._graph(part) for part in parts]
        before = stuck(self._store)
        while True:
            try:
                return self._workers.map(parts)
            except WorkerFailed:
                # Each of them takes down its worker once.
                now = stuck(self._store)
                if now <= before:
                    raise
                before |= now

    def commit(self, parts: Sequence[Extraction]) -> Counts:
        """Commit what was extracted, each table once, and give what was counted."""
        found: dict[str, list[FileRef]] = {}
        for part in parts:
            for table, refs in part.files.items():
                found.setdefault(table, []).extend(refs)
        written = {
            metrics_of(commit.table): {"rows_written": sum(ref.rows for ref in commit.files)}
            for commit in self._commit(found)
            if commit.files
        }
        return merge([*(part.counts for part in parts), written])

    def _commit(self, found: Mapping[str, list[FileRef]]) -> list[Commit]:
        def commit(table: str) -> Commit:
            outbox = self._outboxes.get(table, Outbox(None))
            return self._commit_list(self._tables, table, found[table], outbox)

        if self._tables.at_once == 1:
            return list(map(commit, sorted(found)))
        with ThreadPoolExecutor(self._tables.at_once) as pool:
            return list(pool.map(commit, sorted(found)))
