"""From committed files to Arize's protocol: all arrives, once, whatever the receiver does."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually
from support import NOW, Home, at, environment, packed, plain, scored

from extractors import load_extractors
from pipelines import arize
from pipelines.arize import ArizeAccess
from pipelines.main import run
from pipelines.outbox import Outbox
from pipelines.push import Push
from pipelines.pusher import Pusher
from pipelines.receiver import ArizeReceiver, Fault
from pipelines.tables import Tables
from schemas import ConfigurationError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArizeReceiver]:
    # The waits between attempts are the only thing that is made shorter.
    monkeypatch.setattr(arize, "BACKOFF_SECONDS", 0.01)
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        yield receiver


def push_run(home: Home, receiver: ArizeReceiver) -> Any:
    return run(home.arguments("--arize_url", receiver.url))


def received(receiver: ArizeReceiver) -> list[str]:
    return sorted(
        id_ for upload in receiver.uploads for id_ in upload.table["prediction_id"].to_pylist()
    )


def test_values_and_roles_arrive(home: Home, receiver: ArizeReceiver) -> None:
    home.put(
        packed("scores", [scored(0.25, 0.75)], headers=[b'{"x-channel": "web"}']),
        plain("scores", {"actual": {"cases": [{"id": "c-1", "label": "no"}]}}, message_id="t"),
    )
    report = push_run(home, receiver)
    assert {table.table: table.pushed for table in report.tables if table.pushed} == {
        "scores": 2,
        "scores_actuals": 1,
    }
    predictions, actuals = sorted(receiver.uploads, key=lambda upload: -upload.table.num_rows)
    assert (predictions.model_id, predictions.model_version) == ("scores", "7")
    assert (predictions.environment, predictions.model_type) == ("PRODUCTION", "SCORE_CATEGORICAL")
    assert predictions.columns["prediction_label_column_name"] == "label"
    assert predictions.columns["prediction_score_column_name"] == "score"
    assert set(predictions.columns["feature_column_names"]) == {"amount", "country"}
    assert predictions.columns["tag_column_names"] == ["channel"]
    assert predictions.columns["timestamp_column_name"] == "event_time"
    rows = {row["prediction_id"]: row for row in predictions.table.to_pylist()}
    assert rows["c-1"] == {
        "prediction_id": "c-1",
        "event_time": NOW,
        "amount": 1.5,
        "country": None,
        "channel": "web",
        "label": "yes",
        "score": 0.75,
    }
    assert "seen_at" not in predictions.table.column_names
    assert actuals.columns["actual_label_column_name"] == "label"
    assert actuals.table.select(["prediction_id", "label"]).to_pylist() == [
        {"prediction_id": "c-1", "label": "no"}
    ]


def test_types_do_not_depend_on_what_a_batch_holds(home: Home, receiver: ArizeReceiver) -> None:
    home.put(packed("scores", [scored(0.5)]))
    push_run(home, receiver)
    body = scored(0.5, prefix="d")
    body["request"]["cases"][0] |= {"country": "fr", "amount": 2.0}
    home.put(packed("scores", [body], first=5), name="b")
    push_run(home, receiver)
    one, two = (upload.table.schema for upload in receiver.uploads)
    assert {field.name: field.type for field in one} == {field.name: field.type for field in two}


def test_nothing_is_pushed_twice(home: Home, receiver: ArizeReceiver) -> None:
    home.put(packed("scores", [scored(0.5, prefix=str(i)) for i in range(50)]))
    push_run(home, receiver)
    push_run(home, receiver)
    assert received(receiver) == sorted(f"{i}-0" for i in range(50))
    assert Outbox(home.folder).entries() == set()
    [delivery] = home.deliveries()
    assert (delivery["outcome"], delivery["rows"], delivery["attempts"]) == ("delivered", 50, 1)
    assert (delivery["table_name"], delivery["model_version"]) == ("models.scores", "7")


def test_without_arize_nothing_is_queued(home: Home, receiver: ArizeReceiver) -> None:
    home.put(packed("scores", [scored(0.5)]))
    home.run("--no_arize")
    assert Outbox(home.folder).entries() == set()
    push_run(home, receiver)
    assert receiver.uploads == []


@pytest.mark.parametrize(
    "fault",
    [Fault(status=429, headers={"retry-after": "1"}), Fault(status=500), Fault(reset=True)],
    ids=["429", "500", "reset"],
)
def test_a_passing_fault_is_retried(home: Home, receiver: ArizeReceiver, fault: Fault) -> None:
    home.put(packed("scores", [scored(0.5)]))
    receiver.fail(fault, times=2)
    report = push_run(home, receiver)
    assert report.undelivered_rows == 0
    assert received(receiver) == ["c-0"]
    assert [row["attempts"] for row in home.deliveries()] == [3]


def test_an_ambiguous_fault_is_counted_as_a_possible_duplicate(
    home: Home, receiver: ArizeReceiver
) -> None:
    home.put(packed("scores", [scored(0.5)]))
    receiver.fail(Fault(reset=True, keep=True))
    push_run(home, receiver)
    assert received(receiver) == ["c-0", "c-0"]
    assert [row["possible_duplicates"] for row in home.deliveries()] == [1]


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        (Fault(status=500), arize.ATTEMPTS),
        (Fault(status=200, body=b"<html>hello</html>"), arize.ATTEMPTS),
        (Fault(status=302, headers={"location": "/"}), 1),
        (Fault(status=404), 1),
    ],
    ids=["500", "garbage", "redirect", "404"],
)
def test_an_outage_delays_nothing_but_the_push(
    home: Home, receiver: ArizeReceiver, fault: Fault, attempts: int
) -> None:
    home.put(packed("scores", [scored(0.5)]))
    receiver.fail(fault, times=attempts)
    report = push_run(home, receiver)
    assert report.rows == 1
    assert report.undelivered_rows == 1
    assert received(receiver) == []
    assert len(home.row_ids("scores")) == 1
    healed = push_run(home, receiver)
    assert healed.undelivered_rows == 0
    assert {table.table: table.pushed for table in healed.tables}["scores"] == 1
    assert received(receiver) == ["c-0"]


def test_a_closed_port_and_a_wrong_key_keep_everything(home: Home, receiver: ArizeReceiver) -> None:
    home.put(packed("scores", [scored(0.5)]))
    report = run(home.arguments("--arize_url", "http://127.0.0.1:9"))
    assert report.undelivered_rows == 1
    with environment(ARIZE_API_KEY="wrong"):
        report = push_run(home, receiver)
        assert (report.undelivered_rows, report.push_denied) == (1, True)
    assert received(receiver) == []
    assert push_run(home, receiver).undelivered_rows == 0
    assert received(receiver) == ["c-0"]


def test_a_batch_that_is_refused_is_halved_until_the_row_is_named(
    home: Home, receiver: ArizeReceiver
) -> None:
    home.put(packed("scores", [scored(0.5, prefix=str(i)) for i in range(4)]))
    # All four, the first two, and the first: so that one row stands accused.
    receiver.fail(Fault(status=400), times=3)
    report = push_run(home, receiver)
    assert report.undelivered_rows == 0
    assert received(receiver) == ["1-0", "2-0", "3-0"]
    refused = [row for row in home.deliveries() if row["outcome"] == "refused"]
    assert [(row["row_id"], row["error"]) for row in refused] == [("pub-0:0", "HTTP 400")]
    delivered = [row for row in home.deliveries() if row["outcome"] == "delivered"]
    assert [row["rows"] for row in delivered] == [3]


def test_versions_go_in_calls_of_their_own(home: Home, receiver: ArizeReceiver) -> None:
    home.put(
        packed("scores", [scored(0.5, prefix="a")], model_version="1"),
        packed("scores", [scored(0.5, prefix="b")], first=1, model_version="2"),
        packed("scores", [scored(0.5, prefix="c")], first=2, model_version=""),
    )
    push_run(home, receiver)
    versions = {u.model_version: u.table["prediction_id"].to_pylist() for u in receiver.uploads}
    assert versions == {"1": ["a-0"], "2": ["b-0"], "unversioned": ["c-0"]}


def test_rows_that_are_sent_again_with_their_batch_are_counted(
    home: Home, receiver: ArizeReceiver
) -> None:
    """One version is taken, the other is not: both are sent again, and the books say so."""
    home.put(
        packed("scores", [scored(0.5, prefix="a")], model_version="1"),
        packed("scores", [scored(0.5, prefix="b")], first=1, model_version="2"),
    )
    receiver.fail(Fault(keep=True, status=200))
    receiver.fail(Fault(status=503), times=arize.ATTEMPTS)
    assert push_run(home, receiver).undelivered_rows == 2
    assert push_run(home, receiver).undelivered_rows == 0
    assert received(receiver) == ["a-0", "a-0", "b-0"]
    rows = home.deliveries()
    undelivered = [row for row in rows if row["outcome"] == "undelivered"]
    assert [(row["rows"], row["error"]) for row in undelivered] == [(0, "HTTP 503")]
    # One row arrived twice, and one row is counted.
    assert sum(row["possible_duplicates"] for row in rows) == 1


def test_attempts_without_an_answer_are_counted_also_when_all_fail(
    home: Home, receiver: ArizeReceiver
) -> None:
    home.put(packed("scores", [scored(0.5)]))
    receiver.fail(Fault(reset=True, keep=True), times=arize.ATTEMPTS)
    push_run(home, receiver)
    push_run(home, receiver)
    assert received(receiver) == ["c-0"] * (arize.ATTEMPTS + 1)
    assert sum(row["possible_duplicates"] for row in home.deliveries()) == arize.ATTEMPTS


def test_rows_beyond_the_look_back_stay_in_the_table_only(
    home: Home, receiver: ArizeReceiver
) -> None:
    old = NOW - timedelta(days=6 * 365)
    home.put(
        plain("scores", scored(0.5, prefix="old"), message_id="o", event_time=at(old)),
        plain("scores", scored(0.5, prefix="new"), message_id="n"),
    )
    push_run(home, receiver)
    assert home.row_ids("scores") == ["n:0", "o:0"]
    assert received(receiver) == ["new-0"]
    [delivery] = home.deliveries()
    assert (delivery["rows"], delivery["rows_outside_lookback"]) == (1, 1)


def test_rows_that_have_become_too_old_are_given_up_loudly(
    home: Home, receiver: ArizeReceiver
) -> None:
    home.put(packed("scores", [scored(0.5)]))
    run(home.arguments("--arize_url", "http://127.0.0.1:9"))
    later = datetime.now(UTC) + timedelta(days=6 * 365)
    push = Push(
        home.folder,
        Tables(home.folder),
        load_extractors("odd"),
        ArizeAccess(receiver.url),
        clock=lambda: later,
    )
    assert push.deliver() == {"scores": 0}
    assert push.pending_rows() == 0
    given_up = [row for row in home.deliveries() if row["outcome"] == "delivered"]
    assert [(row["rows"], row["rows_outside_lookback"]) for row in given_up] == [(0, 1)]


def test_entries_of_commits_that_never_happened_are_not_sent(
    home: Home, receiver: ArizeReceiver
) -> None:
    home.put(packed("scores", [scored(0.5)]))
    run(home.arguments("--arize_url", "http://127.0.0.1:9"))
    outbox = Outbox(home.folder)
    [entry] = outbox.entries()
    table, files = outbox.read(entry)
    outbox.write("0123456789abcdef", table, files)
    push_run(home, receiver)
    assert received(receiver) == ["c-0"]
    assert outbox.entries() == {"0123456789abcdef"}


def test_a_second_process_does_not_send_what_another_is_sending(
    home: Home, receiver: ArizeReceiver
) -> None:
    home.put(packed("scores", [scored(0.5)]))
    run(home.arguments("--arize_url", "http://127.0.0.1:9"))
    push = Push(home.folder, Tables(home.folder), load_extractors("odd"), ArizeAccess(receiver.url))
    with Outbox(home.folder).store.locked("deliver"):
        assert push.deliver(wait=False) == {}
    assert receiver.requests == 0
    assert push.deliver() == {"scores": 1}


def test_an_outage_is_waited_for_once_and_not_by_every_table(
    home: Home, receiver: ArizeReceiver
) -> None:
    truth = {"actual": {"cases": [{"id": "c-0", "label": "no"}]}}
    home.put(packed("scores", [scored(0.5)]), plain("scores", truth, message_id="t"))
    receiver.fail(Fault(status=503), times=arize.ATTEMPTS)
    report = push_run(home, receiver)
    assert receiver.requests == arize.ATTEMPTS
    assert report.undelivered_rows == 2
    assert push_run(home, receiver).undelivered_rows == 0
    assert received(receiver) == ["c-0", "c-0"]


def test_what_cannot_be_delivered_any_more_does_not_stop_the_next_run(
    home: Home, receiver: ArizeReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    home.put(packed("scores", [scored(0.5)]))
    run(home.arguments("--arize_url", "http://127.0.0.1:9"))
    outbox = Outbox(home.folder)
    [entry] = outbox.entries()
    outbox.write("fedcba9876543210", "models.gone", outbox.read(entry)[1])
    for path in (home.folder / "tables").rglob("*.parquet"):
        path.unlink()
    home.put(packed("scores", [scored(0.5, prefix="d")], first=9, at=NOW - timedelta(days=2)))
    report = push_run(home, receiver)
    assert report.rows == 1
    assert "models.gone: undelivered rows of a table that is gone" in caplog.text
    assert "models.scores stays in the outbox" in caplog.text


@pytest.mark.parametrize("url", ["localhost:1", "ftp://x", "http://", "http://h/path"])
def test_a_wrong_url_is_refused_at_launch(home: Home, receiver: ArizeReceiver, url: str) -> None:
    home.put(packed("scores", [scored(0.5)]))
    with pytest.raises(ConfigurationError, match="--arize_url"):
        run(home.arguments("--arize_url", url))


def test_the_key_is_in_no_file(home: Home, receiver: ArizeReceiver) -> None:
    secret = "very-secret-key"
    home.put(packed("scores", [scored(0.5)]))
    with environment(ARIZE_API_KEY=secret):
        push_run(home, receiver)
    for path in home.folder.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
    assert [row["outcome"] for row in home.deliveries()] == ["undelivered"]


def test_a_pusher_delivers_what_is_left_and_what_comes(home: Home, receiver: ArizeReceiver) -> None:
    def commit(first: int) -> None:
        home.put(packed("scores", [scored(0.5, prefix=f"c{first}")], first=first), name=str(first))
        run(home.arguments("--arize_url", "http://127.0.0.1:9"))  # nobody listens there

    commit(0)
    extractors = load_extractors(home.package)
    pusher = Pusher(Push(home.folder, Tables(home.folder), extractors, ArizeAccess(receiver.url)))
    eventually(lambda: received(receiver) == ["c0-0"])
    commit(1)
    pusher.notify()
    eventually(lambda: received(receiver) == ["c0-0", "c1-0"])
    commit(2)
    pusher.notify()
    pusher.finish()
    assert received(receiver) == ["c0-0", "c1-0", "c2-0"]
    assert pusher.counts["scores"] == {"rows_pushed": 3}
    assert pusher.undelivered == 0
