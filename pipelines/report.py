"""What a run did, per table: for people, and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from extractors import Extractors
from pipelines.metrics import UNKNOWN
from schemas import Stage


@dataclass(frozen=True)
class TableReport:
    """Counts of one table in one run; `failures` by stage."""

    model_id: str
    kind: str
    table: str
    envelopes: int = 0
    known: int = 0
    rows: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    skipped: int = 0
    pushed: int = 0
    quarantined: int = 0


@dataclass
class Report:
    """Counts of one run. Failures of messages whose model is unknown are in `failures`.

    Attributes:
        failing: files of batches that could not be run, and stay in hand.
    """

    extractors: Extractors
    counts: Mapping[str, Mapping[str, int]]
    files: int = 0
    undelivered_rows: int = 0
    failing: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tables(self) -> list[TableReport]:
        """One report per registered table, in the order of their names."""
        return [
            TableReport(
                item.model_id,
                item.kind,
                item.table,
                envelopes=self._count(item.table, "envelopes_decoded"),
                known=self._count(item.table, "envelopes_known"),
                rows=self._count(item.table, "rows_written"),
                failures=self._failures(item.table),
                skipped=self._count(item.table, "envelopes_skipped"),
                pushed=self._count(item.table, "rows_pushed"),
                quarantined=self._count(item.table, "envelopes_quarantined"),
            )
            for item in sorted(self.extractors.values(), key=lambda item: item.table)
        ]

    @property
    def rows(self) -> int:
        """Rows added to all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def failures(self) -> Mapping[str, int]:
        """Dead letters of this run by stage, those of unknown models included."""
        names = [UNKNOWN, *(item.table for item in self.extractors.values())]
        found = {stage.value: 0 for stage in Stage}
        for name in names:
            for stage, count in self._failures(name).items():
                found[stage] += count
        return {stage: count for stage, count in found.items() if count}

    @property
    def parked(self) -> int:
        """Envelopes of models that nobody has registered."""
        return self._count(UNKNOWN, "envelopes_parked")

    @property
    def heartbeats(self) -> int:
        """Heartbeat messages read."""
        return self._count(UNKNOWN, "heartbeats_received")

    @property
    def files_damaged(self) -> int:
        """Archive files of which a part could not be read; the log names them."""
        return self._count(UNKNOWN, "files_damaged")

    @property
    def push_denied(self) -> bool:
        """Whether Arize refused a push for who we are: a wrong key or space."""
        return self._count(UNKNOWN, "pushes_denied") > 0

    def _failures(self, namespace: str) -> dict[str, int]:
        found = {stage.value: self._count(namespace, f"failures_{stage}") for stage in Stage}
        return {stage: count for stage, count in found.items() if count}

    def _count(self, namespace: str, name: str) -> int:
        return self.counts.get(namespace, {}).get(name, 0)
