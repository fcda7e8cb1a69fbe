"""The ledger's arithmetic, over histories of publishers that are made up."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.books.balance import Bookkeeper, total
from pipelines.books.beats import Beats
from pipelines.books.differences import State, describe, standings
from pipelines.books.ids import Publishers, holes
from pipelines.books.seen import Fate, Sightings
from pipelines.ledger import HEARTBEATS, HEARTBEATS_SCHEMA, heartbeat_rows, record_batch
from schemas.arrow import TIME

HOUR = 3_600_000_000
START, END = 480_000 * HOUR, 480_024 * HOUR
FATES = ("table", "skipped", "dead", "parked", "sampled", "dropped")
PLACES = dict(zip(FATES, Fate))


def beats(*said: dict[str, Any]) -> Beats:
    """Heartbeats; `time`, `publisher_id`, `sequence`, `models`, `final`."""
    rows = [row for one in said for row in heartbeat_rows(one, one["time"], one["final"])]
    if not rows:
        return Beats(HEARTBEATS_SCHEMA.empty_table())
    return Beats(pa.Table.from_batches([record_batch(HEARTBEATS, rows)]))


def beat(
    publisher: str, fates: list[str], time: int, *, final: bool = True, unused: int = 0
) -> dict[str, Any]:
    """What a publisher says after so many envelopes of these fates."""
    counts = {
        "model_id": "m",
        "served": len(fates),
        "sampled_out": fates.count("sampled"),
        "dropped": {"queue_full": fates.count("dropped")} if "dropped" in fates else {},
        "spooled": 0,
        "published": sum(fate in PLACES for fate in fates),
    }
    sequence = len(fates) + unused
    return {
        "publisher_id": publisher,
        "time": time,
        "sequence": sequence,
        "models": [counts],
        "final": final,
    }


def rows(ids: list[str], time: int = START + HOUR) -> pa.Table:
    times = pa.array([time] * len(ids), pa.int64()).view(TIME)
    return pa.table(
        {"envelope_id": pa.array(ids, pa.string()), "event_time": times, "ingest_time": times}
    )


def keeper(found: Beats, stored: list[tuple[str, str]]) -> Bookkeeper:
    """Over envelopes by fate and id."""
    publishers = Publishers(found.publishers)
    sightings = Sightings(publishers, START, END)
    for fate, place in PLACES.items():
        ids = [id_ for one, id_ in stored if one == fate]
        sightings.add(place, rows(ids), "m", fate)
    return Bookkeeper(found, sightings.seen(), publishers.names)


histories = st.dictionaries(
    st.sampled_from(["a", "b-1", "upload", "00"]), st.lists(st.sampled_from(FATES), max_size=40)
)


@given(histories, st.data())
def test_it_balances_exactly_when_all_is_there(
    history: dict[str, list[str]], data: st.DataObject
) -> None:
    said = [beat(name, fates, START + 2 * HOUR) for name, fates in history.items()]
    stored = [
        (fate, f"{name}-{number}")
        for name, fates in history.items()
        for number, fate in enumerate(fates)
        if fate in PLACES
    ]
    again = data.draw(st.lists(st.sampled_from(stored), max_size=20)) if stored else []
    # The same envelope may be in other places, too, of which a table comes first.
    again += [("parked", id_) for fate, id_ in again]
    foreign = [("table", "nobody-7"), ("dead", "a-007"), ("parked", "a-")]
    gone = set(data.draw(st.lists(st.sampled_from(stored), max_size=3))) if stored else set()
    gone_ids = {id_ for _, id_ in gone}
    present = [one for one in [*stored, *again, *foreign] if one[1] not in gone_ids]
    found = beats(*said)
    books = keeper(found, data.draw(st.permutations(present)))
    for standing in standings(books, found, START, END, END, 0):
        mine = {id_ for id_ in gone_ids if id_.rpartition("-")[0] == standing.publisher}
        fates = history[standing.publisher]
        account = standing.account
        assert account is not None and standing.state is State.CLOSED
        assert (account.missing, standing.balances) == (len(mine), not mine)
        numbers = {n for a, b in account.holes for n in range(a, b + 1)}
        assert {int(id_.rpartition("-")[2]) for id_ in mine} <= numbers
        assert (
            len(numbers)
            == account.unfound
            == account.missing + sum(fate not in PLACES for fate in fates)
        )
        assert bool(describe(standing)) == bool(mine)
    whole = books.books(START, END)
    served = sum(total(counts, "served") for counts in whole.lines.values())
    assert served == sum(map(len, history.values()))
    assert sum(total(counts, "committed") for counts in whole.foreign.values()) >= 1


@given(st.lists(st.sampled_from(FATES), min_size=1, max_size=40), st.data())
def test_a_part_of_a_history_balances_by_itself(fates: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(fates)))
    before = beat("a", fates[:cut], START - HOUR, final=False)
    found = beats(before, beat("a", fates, START + HOUR))
    stored = [(fate, f"a-{number}") for number, fate in enumerate(fates) if fate in PLACES]
    books = keeper(
        found, stored[data.draw(st.integers(0, sum(f in PLACES for f in fates[:cut]))) :]
    )
    [standing] = standings(books, found, START, END, END, 0)
    assert standing.account is not None
    assert (standing.account.missing, standing.balances) == (0, True)
    assert total(standing.account.counts, "served") == len(fates) - cut


def test_the_place_that_counts_is_the_first() -> None:
    found = beats(beat("a", ["table"] * 4, START + HOUR))
    stored = [(fate, f"a-{n}") for n in range(4) for fate in list(PLACES)[n:]]
    [standing] = standings(keeper(found, stored), found, START, END, END, 0)
    assert standing.account is not None
    counts = standing.account.counts
    names = ("committed", "skipped", "dead_letters", "parked")
    assert [total(counts, name) for name in names] == [1, 1, 1, 1]


def test_what_was_reserved_and_not_used_is_not_missing() -> None:
    found = beats(beat("a", ["table"] * 3, START + HOUR, unused=2))
    stored = [("table", f"a-{n}") for n in (0, 2, 4)]
    [standing] = standings(keeper(found, stored), found, START, END, END, 0)
    assert standing.balances


def test_two_threads_that_count_in_another_order_than_they_number() -> None:
    # Number 2 is counted, and 1 is not yet; later both are.
    early = beat("a", ["table"] * 2, START + HOUR, final=False)
    late = beat("a", ["table"] * 3, START + 2 * HOUR, final=False)
    found = beats(early, late)
    books = keeper(found, [("table", "a-0"), ("table", "a-2")])
    [standing] = standings(books, found, START, END, START + 2 * HOUR, HOUR - 1)
    assert standing.account is not None and standing.account.missing == 1
    books = keeper(found, [("table", f"a-{n}") for n in range(3)])
    [standing] = standings(books, found, START, END, START + 2 * HOUR, HOUR - 1)
    assert standing.balances


@pytest.mark.parametrize(
    ("later", "most"),
    [
        ([], 5),  # all until the next heartbeat
        ([5, 6], 3),
        ([6, 7], 1 + 2),  # 5 is nowhere, and 8 and 9 may have been there
        ([5, 6, 7, 8, 9], 5),  # it may have been about to send one, or have sent one in vain
        ([5, 11], 5 + 5),
    ],
)
def test_what_a_silent_one_may_have_lost_since(later: list[int], most: int) -> None:
    found = beats(beat("a", ["table"] * 5, START + HOUR, final=False))
    books = keeper(found, [("table", f"a-{n}") for n in (*range(5), *later)])
    [standing] = standings(books, found, START, END, END, 0)
    assert (standing.state, standing.balances) == (State.SILENT, True)
    assert standing.lost_since == most


def test_more_than_was_served_does_not_balance() -> None:
    found = beats(beat("a", ["sampled"] * 3, START + HOUR))
    books = keeper(found, [("table", "a-1")])
    [standing] = standings(books, found, START, END, END, 0)
    assert not standing.balances
    assert "1 more are found" in describe(standing)[0]


def test_a_message_that_nobody_could_read_counts_for_what_lacks() -> None:
    found = beats(beat("a", ["table"] * 5, START + HOUR))
    publishers = Publishers(["a"])
    sightings = Sightings(publishers, START, END)
    sightings.add(Fate.TABLE, rows(["a-0", "a-1"]), "m")
    for said, left in ((2, 1), (3, 0), (9, 0)):
        whole = {"a": Counter({("dead_letters", "decode"): said})}
        books = Bookkeeper(found, sightings.seen(), ["a"], whole)
        [standing] = standings(books, found, START, END, END, 0)
        assert standing.account is not None and standing.account.missing == left


@given(st.lists(st.integers(0, 60)), st.integers(0, 30), st.integers(0, 30))
def test_holes_are_what_is_not_there(present: list[int], first: int, more: int) -> None:
    found = holes(np.unique(np.array(present, np.int64)), first, first + more)
    numbers = [n for a, b in found for n in range(a, b + 1)]
    assert numbers == sorted(set(range(first, first + more)) - set(present))
    assert all(b + 1 < a for (_, b), (a, _) in zip(found, found[1:]))


@given(st.lists(st.text("ab-01", max_size=6) | st.builds("a-{}".format, st.integers(0, 20))))
def test_ids_are_told_apart_as_text(ids: list[str]) -> None:
    publishers = Publishers(["a", "a-a", ""])
    keys = list(
        zip(*(column.tolist() for column in publishers.parse(pa.array(ids, pa.large_string()))))
    )
    assert len(set(keys)) == len(set(ids))
    for (publisher, number), id_ in zip(keys, ids):
        if publisher >= 0:
            assert f"{publishers.names[publisher]}-{number}" == id_


def test_heartbeats_of_strangers_break_nothing() -> None:
    said = beat("a", ["table"], START + HOUR)
    said["sequence"] = 10**15
    said["models"] = [{**said["models"][0], "served": 10**15, "published": -5}]
    found = beats(said, {**said, "time": START + HOUR + 1, "models": []})
    books = keeper(found, [("table", "a-0"), ("table", f"a-{10**14}")])
    assert [one.balances for one in standings(books, found, START, END, END, 0)] == [False]


def test_what_strangers_say_is_not_repeated() -> None:
    said = beat("a", ["table"], START + HOUR)
    said["models"] = [{**said["models"][0], "model_id": "CANARY!", "dropped": {"CANARY": 1}}]
    found = beats(said, {**said, "publisher_id": "CANARY \x1b[31m"})
    assert found.publishers == ["a"]
    [heard] = found.before("a", END)
    assert "CANARY" not in repr(heard)
    assert heard.total["dropped", "other"] == 1
