"""Compares what a home and a receiver hold with what was sent; contents, not counts."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import Home, micros
from traffic import DEAD, PARKED, SKIPPED, TABLE, Case, Sent, payload

from pipelines import ledger
from pipelines.address import local_path
from pipelines.commit import read_ring
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver
from pipelines.tables import Tables
from weighbridge.archive import Message
from weighbridge.wire import BATCH_CONTENT, unpack

COLUMNS = {
    "parcels": ("parcel_id", "kilos", "label", "score"),
    "parcels_actuals": ("parcel_id", "label"),
    "quotes": ("quote_id", "kilometres", "price"),
}
Values = tuple[Any, ...]


@dataclass
class Truth:
    """What was sent."""

    cases: dict[str, Case] = field(default_factory=dict)
    heartbeats: dict[str, int] = field(default_factory=dict)

    def add(self, sent: Iterable[Sent]) -> None:
        """Note messages, under the ids that they were received as."""
        for one in sent:
            self.cases.update((case.envelope_id, case) for case in one.cases)
            self.heartbeats.update((row["row_id"], row["served"]) for row in one.counts)

    def of(self, fate: str) -> dict[str, Case]:
        """Envelopes of one fate, by id."""
        return {id_: case for id_, case in self.cases.items() if case.fate == fate}

    @staticmethod
    def of_all(parts: Iterable[Truth]) -> Truth:
        """All that is in one of the parts."""
        whole = Truth()
        for part in parts:
            whole.cases.update(part.cases)
            whole.heartbeats.update(part.heartbeats)
        return whole

    @property
    def rows(self) -> int:
        """Rows that belong in the models' tables."""
        return sum(len(case.rows) for case in self.cases.values())


@dataclass(frozen=True)
class Leftovers:
    """What is no error, but worth knowing.

    Attributes:
        orphans: Parquet files that no table names.
        stale: outbox entries that were never committed.
        temporary: hidden, unfinished files.
    """

    orphans: int
    stale: int
    temporary: int

    def __add__(self, other: Leftovers) -> Leftovers:
        return Leftovers(
            self.orphans + other.orphans,
            self.stale + other.stale,
            self.temporary + other.temporary,
        )


def check_home(home: Home, truth: Truth) -> Leftovers:
    """Each envelope is where it belongs, and nowhere else, and nothing is left to do."""
    tables = Tables(home.folder)
    held = {name: _rows(tables, f"models.{name}") for name in COLUMNS}
    for name, rows in held.items():
        _same(_stored_rows(rows, truth, COLUMNS[name]), _wanted_rows(truth, name), name)
    in_tables = {row["envelope_id"] for rows in held.values() for row in rows}
    skipped = [(row["envelope_id"], row["reason"]) for row in _rows(tables, ledger.SKIPPED)]
    wanted = {(id_, case.reason) for id_, case in truth.of(SKIPPED).items()}
    _same(Counter(skipped), Counter(wanted), "skipped")
    counts = [(row["row_id"], row["served"]) for row in _rows(tables, ledger.HEARTBEATS)]
    _same(Counter(counts), Counter(truth.heartbeats.items()), "heartbeats")
    dead = _check_letters(home, truth)
    parked = _check_parked(home, truth)
    _check_ledger(truth, in_tables, dead, parked, {id_ for id_, _ in skipped})
    _check_journal(home.folder / "follow.db")
    return Leftovers(_orphans(tables), _check_outbox(tables), _temporary(home.folder))


def check_receiver(receiver: ArizeReceiver, truths: Iterable[Truth]) -> int:
    """Every row arrived as it is, and nothing else; how many arrived again."""
    got: Counter[Values] = Counter()
    for upload in receiver.uploads:
        actual = "actual_label_column_name" in upload.columns
        names = COLUMNS[f"{upload.model_id}_actuals" if actual else upload.model_id]
        columns = [upload.table[name].to_pylist() for name in ("prediction_id", *names[1:])]
        got.update((upload.model_id, actual, *values) for values in zip(*columns))
    wanted: Counter[Values] = Counter()
    for truth in truths:
        for case in truth.of(TABLE).values():
            about = (case.model_id, case.kind == "actual")
            wanted.update((*about, *row.values()) for row in case.rows)
    missing, foreign = wanted - got, set(got) - set(wanted)
    assert not missing, f"the receiver misses {_some(missing)}"
    assert not foreign, f"nobody sent the receiver {sorted(foreign)[:5]}"
    return (got - wanted).total()


def part_of(truth: Truth, home: Home) -> Truth:
    """Those envelopes and heartbeats of which a home holds anything."""
    tables = Tables(home.folder)
    names = [*(f"models.{name}" for name in COLUMNS), ledger.SKIPPED]
    ids = {row["envelope_id"] for name in names for row in _rows(tables, name)}
    ids |= {letter.attributes["envelope_id"] for letter in home.stored("failures")}
    ids |= {id_ for message in home.stored("parked") for id_ in _ids(message)}
    beats = {row["row_id"] for row in _rows(tables, ledger.HEARTBEATS)}
    return Truth(
        {id_: case for id_, case in truth.cases.items() if id_ in ids},
        {id_: served for id_, served in truth.heartbeats.items() if id_ in beats},
    )


def snapshots(home: Home) -> dict[str, int | None]:
    """The current snapshot of each table that is not about the runs themselves."""
    tables = Tables(home.folder)
    names = [*(f"models.{name}" for name in COLUMNS), ledger.SKIPPED, ledger.HEARTBEATS]
    return {name: tables.load(name).metadata.current_snapshot_id for name in names}


def _rows(tables: Tables, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tables.load(name).scan().to_arrow().to_pylist()
    return rows


def _stored_rows(
    rows: list[dict[str, Any]], truth: Truth, columns: tuple[str, ...]
) -> Counter[Values]:
    found: Counter[Values] = Counter()
    for row in rows:
        case = truth.cases.get(row["envelope_id"])
        given = case is not None and case.event_time is None
        time = None if given else micros(row["event_time"])
        found[(row["row_id"], time, *(row[name] for name in columns))] += 1
    return found


def _wanted_rows(truth: Truth, table: str) -> Counter[Values]:
    return Counter(
        (f"{id_}:{index}", case.event_time, *row.values())
        for id_, case in truth.of(TABLE).items()
        if case.table == table
        for index, row in enumerate(case.rows)
    )


def _check_letters(home: Home, truth: Truth) -> set[str]:
    """Ids of dead letters, each of which is there once and has its original bytes."""
    letters = list(home.stored("failures"))
    _once(letters, "failure_fingerprint", "dead letters")
    wanted = truth.of(DEAD)
    for letter in letters:
        id_ = letter.attributes["envelope_id"]
        assert id_ in wanted, f"{id_} is a dead letter: {letter.attributes}"
        assert letter.attributes["failure_stage"] == wanted[id_].reason
        _check_bodies(letter, [wanted[id_]])
    return {letter.attributes["envelope_id"] for letter in letters}


def _check_parked(home: Home, truth: Truth) -> set[str]:
    messages = list(home.stored("parked"))
    _once(messages, "model_id", "parked messages")
    wanted, found = truth.of(PARKED), set()
    for message in messages:
        ids = _ids(message)
        _check_bodies(message, [wanted[id_] for id_ in ids])
        found.update(ids)
    return found


def _ids(message: Message) -> list[str]:
    """Ids of the envelopes of a message, by the contract."""
    if message.attributes.get("content") != BATCH_CONTENT:
        return [message.attributes.get("envelope_id", message.message_id)]
    batch = unpack(message.attributes, message.data)
    first = batch["first_sequence"]
    return [f"{batch['publisher_id']}-{first + offset}" for offset in batch["sequence_offset"]]


def _check_bodies(message: Message, cases: list[Case]) -> None:
    if message.attributes.get("content") == BATCH_CONTENT:
        batch = unpack(message.attributes, message.data)
        for part, bodies in enumerate((batch["request"], batch["response"])):
            assert bodies == [payload(case.body[part]) for case in cases]
    elif isinstance(cases[0].body, bytes):
        assert message.data == cases[0].body
    else:
        request, response = cases[0].body
        assert message.data == payload({"request": request, "response": response})


def _once(messages: list[Message], attribute: str, what: str) -> None:
    seen = Counter((m.message_id, m.attributes.get(attribute), m.data) for m in messages)
    assert not seen or max(seen.values()) == 1, f"{what} that are there twice"


def _check_ledger(
    truth: Truth, in_tables: set[str], dead: set[str], parked: set[str], skipped: set[str]
) -> None:
    """Each envelope has one fate; what is in a table comes before the other three."""
    dead, parked = dead - in_tables, parked - in_tables - dead
    fates = {TABLE: in_tables, DEAD: dead, PARKED: parked, SKIPPED: skipped}
    for fate, ids in fates.items():
        _same(Counter(ids), Counter(truth.of(fate).keys()), f"ids of fate {fate}")
    assert sum(map(len, fates.values())) == len(truth.cases)


def _check_outbox(tables: Tables) -> int:
    """Nothing committed waits; how many entries were never committed."""
    outbox = Outbox(tables.home)
    waiting = [(entry, outbox.read(entry)[0]) for entry in outbox.entries()]
    committed = [(e, name) for e, name in waiting if e in read_ring(tables.load(name))]
    assert not committed, f"the receiver was not sent {committed}"
    return len(waiting)


def _check_journal(path: Path) -> None:
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT id FROM batches WHERE NOT done").fetchall() == []
        assert db.execute("SELECT path FROM files WHERE batch IS NULL").fetchall() == []


def _orphans(tables: Tables) -> int:
    named = set()
    names = [*(f"models.{name}" for name in COLUMNS), *ledger.SCHEMAS]
    for name in names:
        tasks = tables.load(name).scan().plan_files()
        named.update(Path(local_path(task.file.file_path)) for task in tasks)
    return len(set(tables.store.root.rglob("*.parquet")) - named)


def _temporary(folder: Path) -> int:
    return sum(1 for _ in folder.rglob(".*.tmp"))


def _same(got: Counter[Any], wanted: Counter[Any], what: str) -> None:
    if got != wanted:
        missing, more = wanted - got, got - wanted
        raise AssertionError(f"{what}: missing {_some(missing)}; too many {_some(more)}")


def _some(rows: Counter[Any]) -> str:
    return f"{rows.total()}, such as {list(_first(rows, 3))}"


def _first(rows: Iterable[Any], count: int) -> Iterator[Any]:
    yield from [row for _, row in zip(range(count), rows)]
