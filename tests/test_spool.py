"""What cannot be sent lies in files, within a limit, and is sent by whoever lives then."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Emulator, eventually
from test_publisher import as_message, blocked, envelopes, told

from weighbridge import EnvelopePublisher, log
from weighbridge.archive import Message, read_archive
from weighbridge.counts import ModelCounts
from weighbridge.delivery import Delivery
from weighbridge.destinations import Packed, open_destination
from weighbridge.packs import Pack
from weighbridge.spool import Spool, SpoolFullError
from weighbridge.spooling import Spooler
from weighbridge.wire import HEARTBEAT_CONTENT, unpack_heartbeat

LIMIT = 1 << 20


def message(name: str, size: int = 10) -> Packed:
    return {"batch_id": name, "envelope_count": "1", "publisher_id": "p"}, bytes(size)


def names(spool: Spool) -> list[str]:
    return [attributes["batch_id"] for path in spool.files() for attributes, _ in spool.read(path)]


def test_files_come_back_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "p", LIMIT)
    for number in range(12):
        spool.add([message(f"{number}a"), message(f"{number}b")])
    assert names(spool) == [f"{number}{part}" for number in range(12) for part in "ab"]
    for path in spool.files():
        spool.remove(path)
    assert names(spool) == []
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_the_limit_is_one_of_all_processes(tmp_path: Path) -> None:
    one, other = Spool(tmp_path, "one", 2000), Spool(tmp_path, "other", 2000)
    one.add([message("a", 800)])
    with pytest.raises(SpoolFullError):
        other.add([message("b", 800)])
    one.remove(one.files()[0])
    other.add([message("b", 800)])
    assert names(other) == ["b"]


def test_what_lives_is_left_alone_and_what_died_is_taken_over(tmp_path: Path) -> None:
    dead, alive = Spool(tmp_path, "dead", LIMIT), Spool(tmp_path, "alive", LIMIT)
    dead.add([message("a")])
    assert names(alive) == []
    (tmp_path / "dead" / ".x.avro.1.tmp").write_text("half")
    dead.forget()  # as at the end of its process
    third = Spool(tmp_path, "third", LIMIT)
    assert names(alive) == ["a"]
    assert names(third) == []
    alive.remove(alive.files()[0])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_gives_what_it_can_and_is_set_aside(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "p", LIMIT)
    path = spool.add([message(str(number)) for number in range(9)])
    path.write_bytes(path.read_bytes()[:-200])
    found = spool.read(path)
    assert [attributes["batch_id"] for attributes, _ in found] == [
        str(i) for i in range(len(found))
    ]
    assert 0 < len(found) < 9
    assert spool.files() == [path]
    spool.remove(path)
    assert spool.files() == []
    assert [entry.suffix for entry in path.parent.iterdir() if entry.name[0] != "."] == [".damaged"]


@pytest.fixture
def closed_port() -> Iterator[str]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


def spooled(folder: Path) -> list[Message]:
    found: list[Message] = []
    for path in sorted(folder.glob("*/*.avro"), key=lambda path: path.name):
        with open(path, "rb") as stream:
            found += read_archive(stream)
    return found


def test_close_leaves_in_the_spool_what_the_broker_did_not_take(
    tmp_path: Path, closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", closed_port)
    publisher = EnvelopePublisher("projects/test/topics/flights", spool=tmp_path)
    ids = {publisher.capture("flights", b"%d" % i, b"2") for i in range(700)}
    publisher.close(timeout=1)
    assert told(publisher) == {"served": 700, "spooled": 700}
    *packs, last = spooled(tmp_path)
    assert set(envelopes([one for one in packs if "envelope_count" in one.attributes])) == ids
    assert last.attributes["content"] == HEARTBEAT_CONTENT
    [counted] = unpack_heartbeat(last.attributes, last.data)["models"]
    assert (counted["served"], counted["spooled"], counted["published"]) == (700, 700, 0)


def test_without_a_spool_they_are_dropped(
    closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", closed_port)
    publisher = EnvelopePublisher("projects/test/topics/flights")
    publisher.capture("flights", b"1", b"2")
    publisher.close(timeout=0.5)
    assert told(publisher) == {"served": 1, "dropped": {"broker": 1}}


@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest"])
def test_a_full_spool(
    tmp_path: Path, closed_port: str, monkeypatch: pytest.MonkeyPatch, when_full: Any
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", closed_port)
    publisher = EnvelopePublisher(
        "projects/test/topics/flights",
        spool=tmp_path,
        spool_bytes=100_000,
        max_queued_bytes=100_000,
        when_full=when_full,
        linger=0,
    )
    ids = []
    for _ in range(40):
        before = publisher.stats()["queued"]
        ids.append(publisher.capture("flights", os.urandom(10_000), b"2"))
        eventually(lambda: publisher._worker.queue == type(publisher._worker.queue)())
        assert before < 40
    publisher.close(timeout=1)
    stats = publisher.stats()
    assert stats["served"] == 40 == stats["spooled"] + sum(stats["dropped"].values())
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 100_000
    kept = set(envelopes([m for m in spooled(tmp_path) if "envelope_count" in m.attributes]))
    assert len(kept) == stats["spooled"] > 0
    assert (ids[-1] in kept, ids[0] in kept) == (
        (True, False) if when_full == "drop_oldest" else (False, True)
    )


def test_the_next_process_sends_what_a_killed_one_left(
    tmp_path: Path, closed_port: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, subscription = emulator.topic()
    program = """
import os, signal, sys
from weighbridge import EnvelopePublisher, delivery
delivery.SPOOL_SECONDS = 0.1
publisher = EnvelopePublisher(sys.argv[1], spool=sys.argv[2], linger=0)
ids = [publisher.capture("flights", b"%d" % i, b"2") for i in range(300)]
while publisher.stats()["spooled"] < 300:
    pass
print(*ids, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, topic, str(tmp_path)],
        env={**os.environ, "PUBSUB_EMULATOR_HOST": closed_port},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -9, done.stderr
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    publisher = EnvelopePublisher(topic, spool=tmp_path)
    own = publisher.capture("flights", b"own", b"2")
    eventually(lambda: publisher.stats()["recovered"] == 300)
    publisher.close()
    assert told(publisher) == {"served": 1, "published": 1, "recovered": 300}
    messages = [as_message(one) for one in emulator.pull(subscription, 301)]
    assert set(envelopes(messages)) == {*done.stdout.split(), own}
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_comes_back_gets_what_was_spooled(
    tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weighbridge import delivery

    monkeypatch.setattr(delivery, "SPOOL_SECONDS", 0.2)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    topic = "projects/test/topics/comes-late"
    publisher = EnvelopePublisher(topic, spool=tmp_path, linger=0)
    ids = {publisher.capture("flights", b"%d" % i, b"2") for i in range(50)}
    eventually(lambda: publisher.stats()["spooled"] == 50)
    emulator.publisher.create_topic(name=topic)
    subscription = "projects/test/subscriptions/comes-late"
    emulator.subscriber.create_subscription(name=subscription, topic=topic)
    ids |= {publisher.capture("flights", b"later %d" % i, b"2") for i in range(50)}
    eventually(lambda: publisher.stats()["published"] == 100)
    publisher.close()
    assert told(publisher) == {"served": 100, "published": 100}
    messages = [as_message(one) for one in emulator.pull(subscription, 100)]
    assert set(envelopes(messages)) == ids
    assert list(tmp_path.iterdir()) == []


def spooler_of(folder: Path, limit: int = LIMIT, drop_oldest: bool = False) -> Spooler:
    return Spooler(Spool(folder, "p", limit), drop_oldest)


def packed(name: str, counts: ModelCounts, size: int = 10) -> Pack:
    counts.accepted += 1
    return Pack(message(name, size), 1, counts, 0.0)


def sums(counts: ModelCounts) -> dict[str, Any]:
    return {name: value for name, value in counts.stats().items() if value}


def test_what_is_being_sent_does_not_give_way(tmp_path: Path) -> None:
    """It would be counted twice: as dropped, and once it was delivered."""
    counts = ModelCounts("m", None)
    spooler = spooler_of(tmp_path, 4000, drop_oldest=True)
    assert spooler.keep([packed("a", counts, 1000)])
    assert spooler.keep([packed("b", counts, 1000)])
    found = spooler.next()
    assert found is not None and found[1][0].message[0]["batch_id"] == "a"
    assert spooler.keep([packed("c", counts, 1000)])
    spooler.sent(*found)
    assert sums(counts) == {
        "served": 3, "published": 1, "spooled": 1, "dropped": {"spool_full": 1},
    }  # fmt: skip
    assert spooler.recovered == 0
    assert names(spooler._spool) == ["c"]


def test_a_damaged_file_counts_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    counts = ModelCounts("m", None)
    spooler = spooler_of(tmp_path, 8 << 20)
    assert spooler.keep([packed(str(number), counts, 400_000) for number in range(9)])
    assert spooler.keep([packed("whole", counts)])
    path = spooler._spool.files()[0]
    data = bytearray(path.read_bytes())
    data[2_000_000:2_000_100] = bytes(100)
    data[1_400_000] ^= 0xFF
    path.write_bytes(data[:-300_000])
    kept = 0
    for times in range(2):
        found = spooler.next()
        assert found is not None and found[0] == path
        kept = len(found[1])
        assert [pack.message[0]["batch_id"] for pack in found[1]] == [
            str(number) for number in range(kept)
        ]
        if times == 0:
            spooler.failed()  # what can be read is there once more
            spooler._files = []
        else:
            spooler.sent(*found)
    assert 0 < kept < 9
    assert sums(counts) == {
        "served": 10, "published": kept, "spooled": 1, "dropped": {"spool_lost": 9 - kept},
    }  # fmt: skip
    assert not path.exists() and path.with_name(path.name + ".damaged").exists()


@pytest.mark.parametrize("gone", ["file", "folder"])
def test_files_that_someone_removes_are_counted(tmp_path: Path, gone: str) -> None:
    counts = ModelCounts("m", None)
    spooler = spooler_of(tmp_path)
    assert spooler.keep([packed("a", counts)])
    if gone == "folder":
        shutil.rmtree(tmp_path / "p")
    else:
        spooler._spool.files()[0].unlink()
    assert spooler.next() is None
    assert sums(counts) == {"served": 1, "dropped": {"spool_lost": 1}}
    assert spooler.keep([packed("b", counts)])
    found = spooler.next()
    assert found is not None
    spooler.sent(*found)
    assert sums(counts) == {"served": 2, "published": 1, "dropped": {"spool_lost": 1}}
    other = Spool(tmp_path, "other", LIMIT)
    assert other.files() == [] and list(other._locks) == []  # it is locked again


def test_a_file_that_cannot_be_removed_is_not_sent_again(tmp_path: Path) -> None:
    counts = ModelCounts("m", None)
    spooler = spooler_of(tmp_path)
    assert spooler.keep([packed("a", counts)])
    found = spooler.next()
    assert found is not None
    path, data = found[0], found[0].read_bytes()
    path.unlink()
    path.mkdir()  # so that unlinking fails
    spooler.sent(*found)
    path.rmdir()
    path.write_bytes(data)
    spooler._look_at = 0.0
    assert spooler.next() is None
    assert not path.exists()
    assert sums(counts) == {"served": 1, "published": 1}
    assert spooler.recovered == 0


def test_folders_of_the_dead_are_let_go_once_they_are_empty(tmp_path: Path) -> None:
    alive = Spool(tmp_path, "alive", LIMIT)
    for number in range(20):
        dead = Spool(tmp_path, f"dead{number}", LIMIT)
        dead.remove(dead.add([message("a")]))
        dead.forget()
    assert alive.files() == []
    assert alive._locks == {}
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def silent_port() -> Iterator[str]:
    """Where connections are taken, and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_close_spools_what_is_under_way_to_a_broker_that_hangs(
    tmp_path: Path, silent_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", silent_port)
    publisher = EnvelopePublisher("projects/test/topics/flights", spool=tmp_path, linger=0)
    ids = {publisher.capture("flights", b"%d" % i, b"2") for i in range(50)}
    eventually(lambda: bool(publisher._worker.delivery and publisher._worker.delivery._in_flight))
    publisher.close(timeout=1)
    assert told(publisher) == {"served": 50, "spooled": 50}
    kept = [one for one in spooled(tmp_path) if "envelope_count" in one.attributes]
    assert set(envelopes(kept)) == ids


def test_what_a_broker_refuses_of_an_earlier_process_is_told(
    tmp_path: Path,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(log, "_logged", {})
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    dead = Spool(tmp_path, "dead", LIMIT)
    dead.add([message("a"), message("b"), message("c")])
    dead.forget()
    publisher = EnvelopePublisher("projects/test/topics/1-is-no-name", spool=tmp_path, linger=0)
    publisher.capture("flights", b"1", b"2")
    eventually(lambda: "that an earlier process left: broker" in caplog.text)
    eventually(lambda: not list(tmp_path.glob("dead/*")))
    publisher.close()
    assert told(publisher) == {"served": 1, "dropped": {"broker": 1}}


def test_close_tries_once_more_however_long_it_has_failed(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    topic = "projects/test/topics/after-a-pause"
    publisher = EnvelopePublisher(topic, linger=0)
    publisher.capture("flights", b"1", b"2")
    eventually(lambda: bool(publisher._worker.delivery and publisher._worker.delivery._pause))
    assert publisher._worker.delivery is not None
    publisher._worker.delivery._retry_at = time.monotonic() + 1000
    emulator.publisher.create_topic(name=topic)
    publisher.close()
    assert told(publisher) == {"served": 1, "published": 1}


def test_a_heartbeat_alone_is_not_spooled(tmp_path: Path) -> None:
    """A quiet service would fill its spool with them while the broker is away."""
    folder = tmp_path / "destination"
    delivery = Delivery(open_destination(folder), spooler_of(tmp_path / "spool"), LIMIT, False)
    blocked(folder)
    heartbeat = {"content": HEARTBEAT_CONTENT, "publisher_id": "p"}, b"1"
    delivery.beat(heartbeat)
    delivery.step(urgent=True)
    assert delivery._pause and not delivery.idle
    assert not delivery._is_long(time.monotonic() + 1000)
    delivery.add(packed("a", ModelCounts("m", None))._replace(since=time.monotonic()))
    assert delivery._is_long(time.monotonic() + 1000)


def test_the_oldest_give_way_also_among_those_that_failed(tmp_path: Path) -> None:
    counts = ModelCounts("m", None)
    delivery = Delivery(open_destination(tmp_path / "destination"), None, 4000, True)
    blocked(tmp_path / "destination")
    delivery.add(packed("old", counts, 1500))
    delivery.step(urgent=True)
    assert delivery._again
    delivery.add(packed("new", counts, 1500))
    assert not delivery._again and len(delivery._waiting) == 1
    assert sums(counts) == {"served": 2, "queued": 1, "dropped": {"queue_full": 1}}
