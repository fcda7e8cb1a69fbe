"""The unbounded graph: whatever comes late, twice or in pieces, each row is in its table once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import Timestamp
from conftest import Emulator, eventually
from streams import INTERVAL, START, Messages, Subscription, ids, minute, one, options_of, published
from support import Home, environment, heartbeat, micros, plain, scored

from extractors import load_extractors
from pipelines import arize, failures, push_to_arize, stream, windows
from pipelines.graph import push_arguments
from pipelines.main import run
from pipelines.outbox import Outbox
from pipelines.push_to_arize import PushToArize
from pipelines.receiver import ArizeReceiver, Fault
from pipelines.shuffle import WriteRows
from pipelines.stream import ReadSubscription, build_stream
from pipelines.tables import Tables
from pipelines.unwritten import commit_or_keep
from schemas import ConfigurationError
from weighbridge.archive import Message


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def subscription() -> Subscription:
    return Subscription()


def test_rows_of_every_kind_of_message_arrive(home: Home, subscription: Subscription) -> None:
    truth = {"actual": {"cases": [{"id": "c1-0", "label": "no"}]}}
    subscription.deliver(
        one(1),
        plain("scores", truth, message_id="t", at=START),
        plain("scores", b"{", message_id="broken", at=START),
        plain("scores", scored(7.0), message_id="refused", at=START),
        plain("unheard-of", {"request": 1, "response": 2}, message_id="p", at=START),
        plain("scores", {"request": 1, "response": 1}, message_id="e", at=START, status="404"),
        heartbeat("idle", [], sequence=0),
    )
    counted = subscription.follow(home)
    assert home.row_ids("scores") == ids([1])
    assert home.row_ids("scores_actuals") == ["t:0"]
    assert {m.message_id: m.attributes["failure_stage"] for m in home.stored("failures")} == {
        "broken": "decode",
        "refused": "validate",
    }
    assert [m.message_id for m in home.stored("parked")] == ["p"]
    assert [row["row_id"] for row in home.rows("skipped", "weighbridge")] == ["e:0"]
    assert len(home.rows("heartbeats", "weighbridge")) == 1
    assert counted["scores"]["rows_written"] == 2


def test_a_stream_and_a_run_over_the_same_messages_agree(
    home: Home, subscription: Subscription, tmp_path: Path
) -> None:
    messages = [one(1), one(2, minute(3)), plain("scores", scored(0.5), message_id="m", at=START)]
    subscription.deliver(*messages).follow(home)
    other = Home(tmp_path / "other")
    other.put(*messages)
    other.run()
    assert home.rows("scores") == other.rows("scores")
    home.put(*messages)
    assert home.run().rows == 0


def test_events_of_last_week_and_messages_behind_the_watermark(
    home: Home, subscription: Subscription
) -> None:
    week = micros(START - timedelta(days=7))
    subscription.deliver(one(1), one(2, event_time=[week])).wait(past=minute(2))
    # Their windows are over: for a minute, and for as long as Pub/Sub keeps anything.
    late = [one(3), one(4), one(5, START - timedelta(days=31)), one(6, event_time=[week])]
    subscription.each(late).wait(past=minute(9)).deliver(one(7, minute(1))).follow(home)
    assert home.row_ids("scores") == ids(range(1, 8))
    days = {row["event_time"].date() for row in home.rows("scores")}
    assert days == {(START - timedelta(days=ago)).date() for ago in (0, 7, 31)}


@pytest.mark.slow
def test_many_panes_of_a_window_and_some_empty(home: Home, subscription: Subscription) -> None:
    # As many as make an early pane, so that the one at the end of the window is empty; then more.
    full = windows.MAX_GROUPED
    subscription.each(one(number) for number in range(full)).wait(past=minute(2))
    more = range(full, 2 * full + 9)
    subscription.each(one(number, minute(2)) for number in more).wait(past=minute(4)).follow(home)
    assert home.row_ids("scores") == ids(range(more.stop))
    assert len(list((home.folder / "tables").glob("models/scores/data/**/*.parquet"))) == 3


def test_two_windows_in_one_bundle(home: Home, subscription: Subscription) -> None:
    subscription.deliver(one(1, minute(5)), one(2, minute(0)), one(3, minute(2))).wait()
    subscription.wait(past=minute(1)).deliver(one(4, minute(5))).follow(home)
    assert home.row_ids("scores") == ids([1, 2, 3, 4])


def test_redelivered_messages(home: Home, subscription: Subscription) -> None:
    bad = plain("scores", b"{", message_id="bad", at=START)
    parked = plain("unheard-of", {"request": 1, "response": 2}, message_id="p", at=START)
    same = [one(1), bad, parked]
    # In one bundle; in one window; in the next commit; and when it is late by a day.
    subscription.deliver(*same, *same).each(same).wait(past=minute(2))
    subscription.each(same).wait(past=minute(24 * 60)).each([*same, one(2)]).follow(home)
    assert home.row_ids("scores") == ids([1, 2])
    assert home.stored("failures") == [home.stored("failures")[0]]
    assert home.stored("parked") == [parked]


def test_nothing_is_lost_or_doubled_by_a_second_stream(
    home: Home, subscription: Subscription
) -> None:
    subscription.deliver(one(1), one(2)).follow(home)
    Subscription().deliver(one(2), one(3)).follow(home)
    assert home.row_ids("scores") == ids([1, 2, 3])


class RepeatedRows(WriteRows):
    """Gets and gives each element twice, as Dataflow may that delivers at least once."""

    def expand(self, rows: Any) -> Any:
        before = rows | "Before" >> beam.FlatMap(twice).with_output_types(rows.element_type)
        after = super().expand(before)
        return after | "After" >> beam.FlatMap(twice).with_output_types(after.element_type)


def twice(element: Any) -> list[Any]:
    return [element, element]


def test_elements_that_are_repeated_between_two_steps(
    home: Home, subscription: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WriteRows", RepeatedRows)
    subscription.deliver(one(1), one(2)).wait(past=minute(2)).deliver(one(1), one(3)).follow(home)
    assert home.row_ids("scores") == ids([1, 2, 3])


failures_to_come: list[str] = []


def commit_and_fail(*arguments: Any) -> Any:
    done = commit_or_keep(*arguments)
    if failures_to_come:
        raise ConnectionError(failures_to_come.pop())
    return done


def test_a_commit_that_is_repeated_after_a_lost_bundle(
    home: Home, subscription: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "commit_or_keep", commit_and_fail)
    failures_to_come.append("lost after the commit")
    subscription.deliver(one(1)).wait(past=minute(2)).deliver(one(2)).follow(home)
    assert failures_to_come == []
    assert home.row_ids("scores") == ids([1, 2])
    assert len(Tables(home.folder).load("models.scores").history()) == 2


def test_the_graph_is_the_same_for_one_model_and_for_many(home: Home) -> None:
    def steps(package: str) -> list[str]:
        pipeline = beam.Pipeline()
        options = options_of(home)
        messages = pipeline | "ReadSubscription" >> stream.ReadSubscription(
            "projects/weighbridge/subscriptions/s"
        )
        build_stream(messages, load_extractors(package), options, 300.0)
        return sorted(
            t.unique_name for t in pipeline.to_runner_api().components.transforms.values()
        )

    few, many = steps("mended"), steps("odd")
    assert few == many
    assert {
        "ReadSubscription/ReadFromPubSub",
        "ExtractRows/Extract",
        "WriteRows/GroupRows",
        "CommitFiles/StableCommit",
        "CommitFiles/Commit",
        "PushToArize/Push",
    } <= set(few)
    assert not [name for name in few if "lambda" in name]


def test_elements_survive_their_coders(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a runner that encodes what is between two steps; it has no triggers by processing time."""
    for module in (stream, failures):
        monkeypatch.setattr(module, "every", at_the_end)
    extractors = load_extractors(home.package)
    Tables(home.folder).prepare(extractors.values())
    messages = [one(1), one(2, minute(2)), plain("scores", b"{", message_id="broken", at=START)]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        delivered = pipeline | beam.Create(published(*messages)) | beam.Map(itself)
        build_stream(delivered, extractors, options_of(home, "--no_arize", interval=1.0))
    assert home.row_ids("scores") == ids([1, 2])
    assert [m.message_id for m in home.stored("failures")] == ["broken"]
    assert [record.getMessage() for record in caplog.records] == []


def itself(message: Any) -> Any:
    return message


def at_the_end(seconds: float) -> Any:
    return beam.WindowInto(GlobalWindows())


def test_a_wrong_name_of_a_subscription_stops_the_launch() -> None:
    with pytest.raises(ConfigurationError, match="--input_subscription: .* must be in the form"):
        ReadSubscription("weighbridge")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArizeReceiver]:
    # The waits between attempts are the only thing that is made shorter.
    monkeypatch.setattr(arize, "BACKOFF_SECONDS", 0.01)
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        yield receiver


def received(receiver: ArizeReceiver) -> list[str]:
    return sorted(
        id_ for upload in receiver.uploads for id_ in upload.table["prediction_id"].to_pylist()
    )


def test_what_is_committed_is_pushed_and_an_outage_made_up_for(
    home: Home, subscription: Subscription, receiver: ArizeReceiver
) -> None:
    subscription.deliver(one(1)).wait(past=minute(2)).deliver(one(1), one(2)).wait(past=minute(4))
    receiver.fail(Fault(status=500), times=arize.ATTEMPTS)
    subscription.deliver(one(2), one(3)).follow(home, "--arize_url", receiver.url)
    assert received(receiver) == [f"c{number}-{row}" for number in (1, 2, 3) for row in (0, 1)]
    assert [row["outcome"] for row in home.deliveries()].count("undelivered") == 1
    assert Outbox(home.folder).entries() == set()


def test_what_is_pending_is_pushed_also_where_nothing_new_is_committed(
    home: Home, receiver: ArizeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.put(one(1))
    run(home.arguments("--arize_url", "http://127.0.0.1:9"))
    assert len(Outbox(home.folder).entries()) == 1
    # The clock would go on for ever.
    monkeypatch.setattr(push_to_arize, "MAX_TIMESTAMP", Timestamp.now() + 2)
    options = options_of(home, "--arize_url", receiver.url)
    arguments = push_arguments(load_extractors(home.package), options)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | beam.Create([]) | "PushToArize" >> PushToArize(arguments, 0.1)
    assert received(receiver) == ["c1-0", "c1-1"]
    assert Outbox(home.folder).entries() == set()


def test_a_subscription_is_followed(
    home: Home, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WINDOW_SECONDS", 1.0)
    monkeypatch.setattr(stream, "FAILURES_SECONDS", 1.0)
    topic, name = (f"projects/weighbridge/{kind}/stream" for kind in ("topics", "subscriptions"))
    emulator.publisher.create_topic(name=topic)
    emulator.subscriber.create_subscription(name=name, topic=topic)

    def publish(*messages: Message) -> list[str]:
        sent = [
            {"data": m.data, "attributes": m.attributes, "ordering_key": m.ordering_key}
            for m in messages
        ]
        return list(emulator.publisher.publish(topic=topic, messages=sent).message_ids)

    unheard = plain("unheard-of", {"request": 1, "response": 2}, message_id="", at=None)
    before = datetime.now(UTC)
    named = publish(
        one(1),
        one(2),
        one(1),
        plain("scores", scored(0.5), message_id="", at=None),
        plain("scores", b"{", message_id="", at=None),
        unheard._replace(ordering_key="key"),
    )
    extractors = load_extractors(home.package)
    Tables(home.folder).prepare(extractors.values())
    options = PipelineOptions([])
    options.view_as(StandardOptions).streaming = True
    # For as long as it runs: the runner makes its client when it first reads.
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    pipeline = beam.Pipeline(runner="BundleBasedDirectRunner", options=options)
    messages = pipeline | "ReadSubscription" >> ReadSubscription(name)
    build_stream(messages, extractors, options_of(home, "--no_arize", interval=1.0))
    result = pipeline.run()

    # The runner looks at its clocks only once a pull returns, which on an idle topic takes long.
    noise, wanted = count(), sorted([*ids([1, 2]), f"{named[3]}:0"])

    def done() -> bool:
        publish(heartbeat(f"p{next(noise)}", [], sequence=0))
        found = home.row_ids("scores"), len(home.stored("failures")), len(home.stored("parked"))
        return found == (wanted, 1, 1)

    eventually(done, 90)
    [row] = [row for row in home.rows("scores") if row["envelope_id"] == named[3]]
    assert before <= row["event_time"] == row["ingest_time"] <= datetime.now(UTC)
    [parked] = home.stored("parked")
    assert parked == unheard._replace(
        message_id=named[5], publish_time=parked.publish_time, ordering_key="key"
    )
    cancelled = Thread(target=result.cancel)
    cancelled.start()
    eventually(lambda: done() and not cancelled.is_alive(), 30)


def test_failures_of_a_stream_are_few_files_whole_and_once(
    home: Home, subscription: Subscription
) -> None:
    def bad(number: int, moment: datetime = START) -> Message:
        return plain("scores", scored(7.0), message_id=f"bad{number}", at=moment)

    first, second, drained = range(40), range(40, 80), range(80, 90)
    subscription.each(bad(number) for number in first).wait()
    subscription.each(bad(number, minute(2)) for number in second).wait(past=minute(3))
    # Redelivered, and what is being gathered when the job is drained.
    subscription.each(bad(number) for number in first[:20])
    subscription.each(bad(number, minute(4)) for number in drained)
    drain(home, subscription.wait(1))
    wanted = sorted(f"bad{number}" for number in range(90))
    assert sorted(letter.message_id for letter in home.stored("failures")) == wanted
    files = list((home.folder / "failures").rglob("*.avro"))
    assert len(files) <= 3 * failures.SHARDS
    rows = home.rows("failures", "weighbridge")
    assert sorted(row["failed_envelope_id"] for row in rows) == wanted
    assert {str(home.folder / row["file"]) for row in rows} == set(map(str, files))


def drain(home: Home, subscription: Subscription) -> None:
    """Run the graph, and let the watermark go to its end before any interval is over."""
    stream = subscription.stream.advance_watermark_to_infinity()
    for _ in range(3):
        stream.advance_processing_time(INTERVAL + 1)
    options = options_of(home, "--no_arize")
    extractors = load_extractors(home.package)
    options.open().prepare(extractors.values())
    beam_options = PipelineOptions([])
    beam_options.view_as(StandardOptions).streaming = True
    pipeline = beam.Pipeline(runner="BundleBasedDirectRunner", options=beam_options)
    build_stream(pipeline | "Messages" >> Messages(subscription), extractors, options)
    pipeline.run().wait_until_finish()
