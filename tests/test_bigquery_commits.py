"""Commits to BigQuery by many at once, by followers and by a stream, and those it refuses."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import GoogleEmulators
from google_emulators import InBigQuery
from streams import START, Subscription, ids, minute, one
from support import PACKAGES, environment, packed, scored
from test_commit import rows

from extractors import load_extractors
from pipelines.options import parse_run
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver
from pipelines.store import Store
from pipelines.unwritten import commit_or_keep, commit_unwritten

NAME = "models.scores"


@pytest.fixture
def home(tmp_path: Path, google: GoogleEmulators, monkeypatch: pytest.MonkeyPatch) -> InBigQuery:
    pytest.importorskip("pipelines.bigquery.quota")
    monkeypatch.setattr("pipelines.bigquery.quota.USABLE", 1e9)  # tests commit often
    for name, value in google.environment.items():
        monkeypatch.setenv(name, value)
    return InBigQuery(tmp_path, google)


@pytest.fixture
def receiver() -> Iterator[ArizeReceiver]:
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        yield receiver


def prepared(home: InBigQuery) -> list[str]:
    """What a launch does with the tables."""
    tables = parse_run(home.arguments("--no_arize")).open()
    return tables.prepare(load_extractors(home.package).values())


def test_writers_that_commit_the_same_files_at_once_load_them_once(home: InBigQuery) -> None:
    prepared(home)
    twins = [parse_run(home.arguments("--no_arize")).open() for _ in range(4)]
    things = rows(["a", "b"]).drop_columns(["label"])
    with ThreadPoolExecutor(4) as pool, home.google.faults(polls=1):
        written = list(pool.map(lambda twin: twin.write_files(NAME, things).files, twins))
        commits = list(pool.map(lambda twin: twin.commit(NAME, written[0], Outbox(None)), twins))
    assert written == [written[0]] * 4
    assert len({commit.token for commit in commits}) == 1
    assert sorted(len(commit.files) for commit in commits) == [0, 0, 0, 1]
    assert home.row_ids("scores") == ["a:0", "a:1", "b:0", "b:1"]
    assert len(home.jobs()) == 1


def test_a_commit_that_is_refused_is_made_at_the_next_start(home: InBigQuery) -> None:
    prepared(home)
    tables = parse_run(home.arguments("--no_arize")).open()
    files = tables.write_files(NAME, rows(["a"]).drop_columns(["label"])).files
    home.google.client.delete_table(f"{home.dataset}.scores")
    assert commit_or_keep(tables, NAME, files, Outbox(None)) is None
    assert len(Store(home.folder).names("unwritten", ".json")) == 1
    assert prepared(home) == ["created table models.scores"]
    assert commit_unwritten(tables, {}) == [f"committed 2 of 2 rows that {NAME} had refused"]
    assert home.row_ids("scores") == ["a:0", "a:1"]
    assert commit_unwritten(tables, {}) == []


def test_an_entry_counts_once_its_job_has_loaded_its_files(home: InBigQuery) -> None:
    prepared(home)
    tables, outbox = parse_run(home.arguments("--no_arize")).open(), Outbox(home.folder)
    files = tables.write_files(NAME, rows(["a"]).drop_columns(["label"])).files
    with home.google.faults(failures=["invalid"]), pytest.raises(ValueError, match="invalid"):
        tables.commit(NAME, files, outbox)
    [entry] = outbox.entries()
    assert tables.committed(NAME, outbox.entries()) == set()
    assert tables.commit(NAME, files, outbox).entry == entry
    assert tables.committed(NAME, [entry, "another"]) == {entry}


@pytest.mark.slow
def test_workers_and_a_follower(home: InBigQuery, receiver: ArizeReceiver) -> None:
    home.put(*(one(number) for number in range(3)), name="a")
    home.put(*(one(number) for number in range(3, 6)), name="b")
    follow = ("--follow", "--exit_when_idle", "200ms", "--commit_interval", "1s")
    report = home.run("--workers", "2", "--arize_url", receiver.url, *follow)
    assert report.failing == []
    assert home.row_ids("scores") == ids(range(6))
    got = Counter(
        id_ for each in receiver.uploads for id_ in each.table["prediction_id"].to_pylist()
    )
    assert got == {f"c{number}-{row}": 1 for number in range(6) for row in (0, 1)}


def test_a_stream_fills_tables_and_tells_arize(home: InBigQuery, receiver: ArizeReceiver) -> None:
    subscription = Subscription().deliver(one(1)).wait(past=minute(2))
    subscription.deliver(one(2), one(2)).wait(past=minute(4))
    subscription.deliver(one(2), one(3)).follow(home, "--arize_url", receiver.url)
    assert Counter(home.row_ids("scores")).keys() == set(ids([1, 2, 3]))
    assert home.row_ids("scores_latest") == ids([1, 2, 3])
    got = {id_ for each in receiver.uploads for id_ in each.table["prediction_id"].to_pylist()}
    assert got == {f"c{number}-{row}" for number in (1, 2, 3) for row in (0, 1)}
    assert Outbox(home.folder).entries() == set()
    outcomes = [row["outcome"] for row in home.rows("weighbridge_deliveries")]
    assert set(outcomes) == {"delivered"}


def test_many_models_are_committed_side_by_side(home: InBigQuery) -> None:
    other = {"at": START, "first": 7}
    home.put(packed("scores", [scored(0.5)]), packed("scores-objects", [scored(0.5)], **other))
    with home.google.faults(failures=["invalid"]), pytest.raises(ValueError, match="invalid"):
        home.run()
    assert sorted(home.jobs().values(), key=str) == [None, "invalid"]
    home.run()
    assert home.row_ids("scores") == ["pub-0:0"]
    assert home.row_ids("scores_objects") == ["pub-7:0"]


@pytest.mark.slow
def test_a_follower_that_is_killed_again_and_again_loads_each_row_once(
    home: InBigQuery, receiver: ArizeReceiver
) -> None:
    child, dice = str(Path(__file__).with_name("bigquery_follow_child.py")), random.Random(7)
    follow = ("--follow", "--exit_when_idle", "3s", "--commit_interval", "1s")
    arguments = home.arguments("--arize_url", receiver.url, *follow)
    command = [sys.executable, child, *arguments]
    settings = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    prepared(home)
    numbers = iter(range(1000))
    lives = 0
    while lives < 12 or len(home.jobs()) <= 5:
        assert (lives := lives + 1) < 60, "it was hardly ever killed at work"
        process = subprocess.Popen(command, env=settings, stderr=subprocess.DEVNULL)
        for _ in range(dice.randint(2, 4)):
            number = next(numbers)
            home.put(one(number), name=f"f{number}")
            with suppress(subprocess.TimeoutExpired):
                process.wait(dice.uniform(0.5, 1.5))
        process.kill()
        process.wait()
    subprocess.run(command, env=settings, check=True, timeout=120)
    wanted = ids(range(next(numbers)))
    assert home.row_ids("scores") == wanted
    assert home.row_ids("scores_latest") == wanted
    got = {id_ for each in receiver.uploads for id_ in each.table["prediction_id"].to_pylist()}
    assert len(got) == len(wanted)
    assert Outbox(home.folder).entries() == set()
