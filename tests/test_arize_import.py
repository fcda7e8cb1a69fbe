"""The SQL of docs/arize-import.md on BigQuery's emulator, and the trap that it goes around."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import GoogleEmulators
from google_emulators import InBigQuery
from support import NOW, plain, scored
from test_docs import blocks

PAGE = Path(__file__).parents[1] / "docs/arize-import.md"


class Import:
    """An import job as the page describes it: rows above the largest change timestamp so far."""

    def __init__(self, home: InBigQuery, source: str, column: str) -> None:
        self._home, self._source, self._column = home, source, column
        self._watermark = datetime.fromisoformat("1970-01-01T00:00:00Z")

    def __call__(self) -> list[str]:
        rows = self._home.rows(self._source)
        new = [row for row in rows if row[self._column] > self._watermark]
        self._watermark = max([self._watermark, *(row[self._column] for row in new)])
        return [row["row_id"] for row in new]


class Warehouse:
    """A dataset whose scheduled query is the page's."""

    def __init__(self, home: InBigQuery) -> None:
        self.home, dataset = home, home.dataset.partition(".")[2]
        self._make, self._fill, self._show = (
            statement.replace("weighbridge.payment_fraud", f"{dataset}.scores")
            for statement in statements()
        )

    def load(self, *ids: str, at: datetime = NOW) -> None:
        messages = [plain("scores", scored(0.5), message_id=id_, at=at) for id_ in ids]
        path = self.home.put(*messages, name="-".join(ids))
        self.home.run(files=str(path))

    def set_up(self) -> None:
        self._run(self._make)
        self._run(self._show)

    def fill(self) -> None:
        self._run(self._fill)

    def pass_time(self, minutes: int) -> None:
        """As if all of it had been written so long ago."""
        self._run(
            f"UPDATE `{self.home.dataset}.scores_for_arize` "
            f"SET written_at = TIMESTAMP_SUB(written_at, INTERVAL {minutes} MINUTE) WHERE TRUE"
        )

    def written(self) -> list[str]:
        return self.home.row_ids("scores_for_arize")

    def _run(self, statement: str) -> None:
        # Unlike query_and_wait this raises what the emulator refuses.
        self.home.google.client.query(statement).result()


def statements() -> Iterator[str]:
    for block in blocks(PAGE):
        assert block.language == "sql"
        yield from filter(str.strip, block.text.split(";\n"))


@pytest.fixture
def warehouse(tmp_path: Path, google: GoogleEmulators) -> Warehouse:
    return Warehouse(InBigQuery(tmp_path, google, "strict"))


@pytest.mark.slow
def test_each_row_is_written_once(warehouse: Warehouse) -> None:
    warehouse.load("a", "b")
    warehouse.set_up()
    assert warehouse.written() == []
    warehouse.fill()
    warehouse.load("b", "c")  # b again, in another list of files
    assert warehouse.home.row_ids("scores").count("b:0") == 2
    warehouse.fill()
    warehouse.fill()
    assert warehouse.written() == ["a:0", "b:0", "c:0"]
    warehouse.set_up()  # as harmless
    assert warehouse.written() == ["a:0", "b:0", "c:0"]


def test_a_late_row_is_read_by_its_time_of_writing_only(warehouse: Warehouse) -> None:
    warehouse.load("a")
    warehouse.set_up()
    warehouse.fill()
    by = {
        column: Import(warehouse.home, "scores_for_arize", column)
        for column in ("event_time", "ingest_time", "written_at")
    }
    assert {column: read() for column, read in by.items()} == dict.fromkeys(by, ["a:0"])
    warehouse.load("late", at=NOW - timedelta(days=3))
    warehouse.fill()
    found: dict[str, Any] = {column: read() for column, read in by.items()}
    assert found == {"event_time": [], "ingest_time": [], "written_at": ["late:0"]}


@pytest.mark.slow
def test_days_that_are_not_compared_are_left_out(warehouse: Warehouse) -> None:
    warehouse.load("a")
    warehouse.load("older", at=NOW - timedelta(days=9))
    warehouse.set_up()
    warehouse.fill()
    assert warehouse.written() == ["a:0"]


def test_the_newest_minutes_are_not_shown_yet(warehouse: Warehouse) -> None:
    warehouse.load("a")
    warehouse.set_up()
    warehouse.fill()
    assert warehouse.home.rows("scores_arize") == []
    warehouse.pass_time(11)
    warehouse.load("b")
    warehouse.fill()
    [shown] = warehouse.home.rows("scores_arize")
    assert (shown["row_id"], shown["score"]) == ("a:0", 0.5)
    assert "written_at" in shown
