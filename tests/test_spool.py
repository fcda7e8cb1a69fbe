"""What cannot be sent lies in files, within a limit, and is sent by whoever lives then."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Emulator, eventually
from test_publisher import as_message, envelopes, told

from weighbridge import EnvelopePublisher
from weighbridge.archive import Message, read_archive
from weighbridge.destinations import Packed
from weighbridge.spool import Spool, SpoolFullError
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
