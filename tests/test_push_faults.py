"""Outages, limits and threads of the push: nothing is lost, and what may be doubled is counted."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually
from pyiceberg.exceptions import NoSuchTableError
from support import Home, environment, packed, plain, scored

from extractors import load_extractors
from pipelines import arize, push
from pipelines.arize import ATTEMPTS, ArizeAccess
from pipelines.arrivals import settled_files
from pipelines.breaker import MAX_OPEN_SECONDS, MIN_OPEN_SECONDS, Breaker
from pipelines.ledger import DELIVERIES
from pipelines.main import run
from pipelines.push import Push
from pipelines.receiver import ArizeReceiver, Fault
from pipelines.spaces import Space
from pipelines.tables import Tables
from pipelines.undelivered import undelivered

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArizeReceiver]:
    monkeypatch.setattr(arize, "BACKOFF_SECONDS", 0.01)
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        yield receiver


def test_what_was_delivered_is_told_as_soon_as_its_table_takes_it(
    home: Home, receiver: ArizeReceiver
) -> None:
    commit(home, 0)
    tables = Tables(home.folder)
    tables.catalog.drop_table(DELIVERIES)
    sender = pushing(home, receiver)
    with pytest.raises(NoSuchTableError):
        sender.deliver()
    assert (len(receiver.uploads), sender.pending_rows()) == (1, 0)
    tables.prepare([])
    assert sender.deliver() == {}
    [delivery] = home.deliveries()
    assert (delivery["outcome"], delivery["rows"]) == ("delivered", 1)
    settled = settled_files(tables, "models.scores")
    assert (
        undelivered(tables.held("models.scores"), settled).rows == 0
    )  # nothing is to be sent anew


class Clock:
    """A clock that moves when somebody waits."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def commit(home: Home, first: int, count: int = 1) -> None:
    """Commit rows, each an envelope of its own, that wait in the outbox."""
    bodies = [scored(0.5, prefix=f"c{first + i}") for i in range(count)]
    home.put(packed("scores", bodies, first=first), name=str(first))
    run(home.arguments("--arize_url", NOBODY, files=str(home.input / f"{first}.avro")))


def pushing(home: Home, receiver: ArizeReceiver, clock: Clock | None = None, **space: Any) -> Push:
    access = ArizeAccess(receiver.url, (Space(**space),) if space else ())
    extractors = load_extractors(home.package)
    if clock is None:
        return Push(home.folder, Tables(home.folder), extractors, access)
    return Push(home.folder, Tables(home.folder), extractors, access, clock, clock.pass_)


def received(receiver: ArizeReceiver) -> Counter[str]:
    return Counter(
        id_ for upload in receiver.uploads for id_ in upload.table["prediction_id"].to_pylist()
    )


@pytest.mark.slow
def test_six_hours_without_arize(home: Home, receiver: ArizeReceiver) -> None:
    """It is asked once in five minutes, and all arrives when it is back."""
    commit(home, 0, 3)
    clock = Clock()
    pusher = pushing(home, receiver, clock)
    receiver.fail(Fault(status=503), times=10_000)
    start = clock.now
    while clock.now - start < timedelta(hours=6):
        assert pusher.deliver() == {}
        clock.pass_(15)
        if clock.now - start > timedelta(hours=3) and len(list(home.input.iterdir())) == 1:
            commit(home, 10, 2)
    probes = receiver.requests - ATTEMPTS
    assert 6 * 3600 / MAX_OPEN_SECONDS - 2 <= probes <= 6 * 3600 / MAX_OPEN_SECONDS + 8
    receiver.heal()
    clock.pass_(MAX_OPEN_SECONDS)
    assert pusher.deliver() == {"scores": 5}
    assert received(receiver) == {f"c{i}-0": 1 for i in (0, 1, 2, 10, 11)}
    assert pusher.pending_rows() == 0
    delivered = [row for row in home.deliveries() if row["outcome"] == "delivered"]
    assert [(row["rows"], row["possible_duplicates"]) for row in delivered] == [(5, 0)]


@pytest.mark.parametrize(
    ("fault", "arrives", "doubled"),
    [
        (Fault(status=429, headers={"retry-after": "1"}), 1, 0),
        (Fault(status=503), 1, 0),
        (Fault(status=500), 1, 1),
        (Fault(status=502, keep=True), 2, 1),
        (Fault(status=504, keep=True), 2, 1),
        (Fault(status=200, body=b"<html></html>", keep=True), 2, 1),
        (Fault(status=200, body=b""), 1, 1),
        (Fault(reset=True, keep=True), 2, 1),
        (Fault(reset=True), 1, 1),
        (Fault(hang=30, keep=True), 2, 1),
        (Fault(hang=0.05, keep=True), 1, 0),
    ],
    ids=[
        *("429", "503", "500", "502 after taking", "504 after taking", "garbage after taking"),
        *("empty answer", "reset after reading", "reset", "hang after taking", "slow"),
    ],
)
def test_what_may_be_doubled_is_counted(
    home: Home,
    receiver: ArizeReceiver,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    arrives: int,
    doubled: int,
) -> None:
    monkeypatch.setattr(arize, "TIMEOUT_SECONDS", 0.5)
    commit(home, 0)
    receiver.fail(fault)
    assert pushing(home, receiver).deliver() == {"scores": 1}
    assert received(receiver) == {"c0-0": arrives}
    told = [row for row in home.deliveries() if row["outcome"] == "delivered"]
    assert [row["possible_duplicates"] for row in told] == [doubled]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_into_a_success(
    home: Home, receiver: ArizeReceiver, status: int
) -> None:
    commit(home, 0)
    receiver.fail(Fault(status=status, headers={"location": f"{receiver.url}/"}))
    assert pushing(home, receiver).deliver() == {}
    assert received(receiver) == {}
    assert pushing(home, receiver).deliver() == {"scores": 1}
    assert received(receiver) == {"c0-0": 1}


def test_a_batch_is_split_by_its_bytes(home: Home, receiver: ArizeReceiver) -> None:
    commit(home, 0, 40)
    whole = pushing(home, receiver)
    assert pushing(home, receiver, max_upload_bytes=1000).deliver() == {"scores": 40}
    sizes = [upload.table.num_rows for upload in receiver.uploads]
    assert sum(sizes) == 40
    assert len(sizes) > 3
    assert received(receiver) == {f"c{i}-0": 1 for i in range(40)}
    assert whole.pending_rows() == 0
    [told] = [row for row in home.deliveries() if row["outcome"] == "delivered"]
    assert (told["rows"], told["attempts"]) == (40, len(sizes))


def test_a_server_that_takes_less_has_batches_halved(home: Home, receiver: ArizeReceiver) -> None:
    commit(home, 0, 4)
    receiver.fail(Fault(status=413))
    assert pushing(home, receiver).deliver() == {"scores": 4}
    assert [upload.table.num_rows for upload in receiver.uploads] == [2, 2]


def test_the_first_upload_goes_alone_and_then_two_at_once(
    home: Home, receiver: ArizeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "MAX_PUSHED_ROWS", 1)  # each file is a batch
    for first in range(5):
        commit(home, first)
    receiver.fail(Fault(keep=True))
    receiver.fail(Fault(keep=True, hang=30), times=2)
    with ThreadPoolExecutor() as threads:
        running = threads.submit(pushing(home, receiver).deliver)
        eventually(lambda: len(receiver.uploads) == 3)
        assert receiver.requests == 3  # two of them hang, and no other has begun
        receiver.release()
        assert running.result() == {"scores": 5}
    assert received(receiver) == {f"c{i}-0": 1 for i in range(5)}


def test_a_space_that_is_down_is_asked_by_one_table_only(
    home: Home, receiver: ArizeReceiver
) -> None:
    truth = {"actual": {"cases": [{"id": "c-0", "label": "no"}]}}
    home.put(packed("scores", [scored(0.5)]), plain("scores", truth, message_id="t"))
    run(home.arguments("--arize_url", NOBODY))
    one = pushing(home, receiver)
    receiver.fail(Fault(status=503), times=ATTEMPTS)
    assert one.deliver() == {}
    assert receiver.requests == ATTEMPTS  # neither the other table nor the next delivery asks
    assert one.deliver() == {}
    assert receiver.requests == ATTEMPTS
    assert pushing(home, receiver).deliver() == {"scores": 1, "scores_actuals": 1}


def test_files_that_cannot_be_read_hold_up_no_others(
    home: Home, receiver: ArizeReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    commit(home, 0)
    [gone] = (home.folder / "tables").rglob("models/scores/data/**/*.parquet")
    commit(home, 1)
    commit(home, 2)
    gone.write_bytes(b"no Parquet")
    later = pushing(home, receiver)
    assert later.deliver() == {"scores": 2}
    assert received(receiver) == {"c1-0": 1, "c2-0": 1}
    assert later.pending_rows() == 1
    assert "models.scores stays in the outbox" in caplog.text


def test_a_breaker_lets_one_try_and_then_all() -> None:
    clock = Clock()
    breaker = Breaker(lambda: clock.now.timestamp(), 5)
    assert breaker.enter() == 5  # nothing is known: it goes alone, with all its attempts
    breaker.failed()
    assert (breaker.enter(), breaker.open) == (0, True)
    waits = []
    for _ in range(7):
        start = clock.now
        while not (entered := breaker.enter()):
            clock.pass_(1)
        assert entered == 1
        waits.append((clock.now - start).total_seconds())
        breaker.failed()
    assert waits == pytest.approx([15, 30, 60, 120, 240, 300, 300], abs=1)
    assert MIN_OPEN_SECONDS == 15
    clock.pass_(MAX_OPEN_SECONDS)
    assert breaker.enter() == 1
    breaker.succeeded()
    assert (breaker.enter(), breaker.enter(), breaker.open) == (5, 5, False)


def test_others_wait_for_the_one_that_goes_alone() -> None:
    breaker = Breaker(lambda: 0.0, 5)
    assert breaker.enter() == 5
    with ThreadPoolExecutor() as threads:
        second = threads.submit(breaker.enter)
        assert not second.done()
        breaker.succeeded()
        assert second.result() == 5
