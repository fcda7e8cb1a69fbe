"""Following as users do it: a process of its own, signals, kills, a real subscription."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Emulator, eventually
from google.api_core.exceptions import DeadlineExceeded, ServiceUnavailable
from pyiceberg.exceptions import NoSuchTableError
from sqlalchemy.exc import OperationalError
from support import NOW, PACKAGES, Home, micros, packed, plain, scored, stored, write_package

from pipelines import subscription
from pipelines.batches import input_file
from pipelines.journal import Journal
from weighbridge.archive import Message

COMMAND = Path(sys.executable).with_name("weighbridge")
DAY = 86_400_000_000
QUICK = ("--commit_interval", "100ms")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.input.mkdir()
    return home


class Follower:
    """A running `weighbridge run` that follows."""

    def __init__(self, home: Home, *arguments: str, **env: str) -> None:
        own = ["--home", str(home.folder), "--extractors_package", home.package]
        self._process = subprocess.Popen(
            [str(COMMAND), "run", *own, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "120", "PYTHONPATH": str(PACKAGES), **env},
        )

    def end(self, number: int | None = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit status and output, after a signal or by itself."""
        if number is not None:
            self._process.send_signal(number)
        out, err = self._process.communicate(timeout=60)
        return self._process.returncode, out, err

    @property
    def runs(self) -> bool:
        return self._process.poll() is None


def ids(home: Home, table: str = "scores") -> list[str]:
    try:
        return home.row_ids(table)
    except (NoSuchTableError, OperationalError):  # nothing is prepared yet
        return []


def watched(home: Home, *more: str) -> Follower:
    return Follower(home, "--input_files", str(home.input), "--follow", "--no_arize", *QUICK, *more)


@pytest.mark.slow
def test_files_become_rows_as_they_appear_until_a_signal(home: Home) -> None:
    home.put(packed("scores", [scored(0.5)]), name="a")
    follower = watched(home)
    eventually(lambda: ids(home) == ["pub-0:0"], 60)
    home.put(packed("scores", [scored(0.5)], first=1), plain("x", b"{", message_id="p"), name="b")
    eventually(lambda: len(ids(home)) == 2, 30)
    status, out, err = follower.end(signal.SIGINT)
    assert status == 0, err
    assert "stopping after the batch in hand" in out
    assert "2 files in" in out
    assert ids(home) == ["pub-0:0", "pub-1:0"]
    assert [m.message_id for m in home.stored("failures")] == ["p"]


@pytest.mark.slow
def test_it_exits_when_nothing_comes(home: Home) -> None:
    home.put(packed("scores", [scored(0.5)]), name="a")
    status, out, err = watched(home, "--exit_when_idle", "300ms").end(None)
    assert status == 0, err
    assert ids(home) == ["pub-0:0"]
    # Known by its journal: the file is not even read again.
    status, out, err = watched(home, "--exit_when_idle", "300ms").end(None)
    assert (status, "0 files in" in out) == (0, True), err


@pytest.mark.slow
def test_a_second_follower_of_a_home_is_refused(home: Home) -> None:
    home.put(packed("scores", [scored(0.5)]), name="a")
    first = watched(home)
    eventually(lambda: bool(ids(home)), 60)
    status, _, err = watched(home).end(None)
    assert status == 2
    assert "another `weighbridge run` follows into" in err
    assert "Traceback" not in err
    assert first.runs
    assert first.end()[0] == 0


def subscribed(home: Home, emulator: Emulator, subscription: str, *more: str) -> Follower:
    arguments = ("--input_subscription", subscription, "--no_arize", *QUICK, *more)
    return Follower(home, *arguments, PUBSUB_EMULATOR_HOST=emulator.host)


def publish(emulator: Emulator, topic: str, *messages: Message) -> None:
    sent = [{"data": m.data, "attributes": m.attributes} for m in messages]
    emulator.publisher.publish(topic=topic, messages=sent)


def test_a_subscription_becomes_rows_and_files(home: Home, emulator: Emulator) -> None:
    topic, subscription = emulator.topic()
    publish(emulator, topic, packed("scores", [scored(0.5), scored(0.25)]))
    follower = subscribed(home, emulator, subscription)
    eventually(lambda: len(ids(home)) == 2, 60)
    again = packed("scores", [scored(0.5), scored(0.25)])
    days_late = packed("scores", [scored(0.1)], first=7, event_time=[micros(NOW) - 9 * DAY])
    publish(emulator, topic, again, days_late, plain("scores", b"{", message_id=""))
    eventually(lambda: len(ids(home)) == 3 and bool(home.stored("failures")), 30)
    status, out, err = follower.end()
    assert status == 0, err
    assert ids(home) == ["pub-0:0", "pub-1:0", "pub-7:0"]
    # What came again is dropped before it is written; all else is on disk as it came.
    kept = list(stored(home.folder / "archive"))
    assert [m.attributes.get("batch_id") for m in kept] == ["pub-0", "pub-7", None]
    assert all(m.message_id and m.publish_time for m in kept)
    assert kept[0].data == again.data


@pytest.mark.slow
def test_two_homes_share_a_subscription(home: Home, tmp_path: Path, emulator: Emulator) -> None:
    topic, subscription = emulator.topic()
    other = Home(tmp_path / "other")
    followers = [subscribed(one, emulator, subscription) for one in (home, other)]
    count = 40

    def both() -> list[str]:
        return sorted(ids(home) + ids(other))

    for first in range(count):
        publish(emulator, topic, packed("scores", [scored(0.5)], first=first))
    eventually(lambda: len(both()) == count, 60)
    assert both() == sorted(f"pub-{i}:0" for i in range(count))
    assert [follower.end()[0] for follower in followers] == [0, 0]


@pytest.mark.slow
class _Away:
    """A Pub/Sub that does not answer but for the third pull."""

    def __init__(self) -> None:
        self.pulls = 0
        self.transport = self

    def pull(self, **_: object) -> None:
        self.pulls += 1
        raise DeadlineExceeded("") if self.pulls == 3 else ServiceUnavailable("canary")  # type: ignore[no-untyped-call]

    def close(self) -> None:
        pass


def test_an_outage_of_pubsub_is_said_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = _Away()
    monkeypatch.setattr(subscription, "_client", lambda: away)
    monkeypatch.setattr(subscription, "_RETRY_SECONDS", 0.001)
    journal = Journal(tmp_path / "follow.db")
    pulled = subscription.Subscription("projects/p/subscriptions/s", tmp_path, journal)
    eventually(lambda: away.pulls > 20)
    pulled.close()
    journal.close()
    # Once before something was heard of it, and once behind.
    assert (
        caplog.messages
        == [
            "projects/p/subscriptions/s: pulling failed with ServiceUnavailable; it is tried again "
            "each second"
        ]
        * 2
    )


def test_a_subscription_that_is_not_there(home: Home, emulator: Emulator) -> None:
    status, _, err = subscribed(home, emulator, "projects/test/subscriptions/none").end(None)
    assert status == 2
    assert "--input_subscription: projects/test/subscriptions/none: there is none" in err
    assert "Traceback" not in err


@pytest.mark.slow  # a window of a minute, and a pull that waits for half of one
def test_one_unbounded_job_until_it_is_stopped(home: Home, emulator: Emulator) -> None:
    topic, subscription = emulator.topic()
    publish(emulator, topic, packed("scores", [scored(0.5), scored("x")]))
    follower = subscribed(home, emulator, subscription, "--streaming", "--commit_interval", "1s")
    eventually(lambda: ids(home) == ["pub-0:0"], 120)
    status, out, err = follower.end(signal.SIGINT)
    assert status == 130, err
    assert "it is for trying out" in out
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_batch_whose_files_were_replaced_is_none(home: Home) -> None:
    path = home.put(packed("scores", [scored(0.5)]), name="a")
    journal = Journal(home.folder / "follow.db")
    journal.add([input_file(str(path))])
    journal.begin(journal.waiting())
    home.put(packed("scores", [scored(0.5)], first=1), name="a")
    journal.add([input_file(str(path))])
    journal.close()
    status, _, err = watched(home, "--exit_when_idle", "100ms").end(None)
    assert status == 0, err
    assert ids(home) == ["pub-1:0"]


POISON = """
import os, signal
from extractors import Row, extractor

class Number(Row):
    number: int

@extractor("number", row=Number, model_type="untyped")
def extract(envelope):
    number = envelope.request["number"]
    if number == 13 {mended}:
        os.kill(os.getpid(), signal.SIGKILL)
    yield Number(number=number)
"""


def numbered(number: int) -> Message:
    body = {"request": {"number": number}, "response": 0}
    return plain("number", body, message_id=f"m{number}")


@pytest.mark.slow
def test_a_batch_that_kills_its_process_stops_nothing_else(home: Home, tmp_path: Path) -> None:
    write_package(tmp_path, "poisoned", number=POISON.format(mended=""))
    home.package = "poisoned"
    for number in (12, 13, 14):
        home.put(numbered(number), name=str(number))
    path = {"PYTHONPATH": f"{tmp_path}:{PACKAGES}"}
    source = ("--input_files", str(home.input), "--follow", "--no_arize", *QUICK)
    follower = Follower(home, *source, **path)
    eventually(lambda: ids(home, "number") == ["m12:0", "m14:0"], 60)
    home.put(numbered(15), name="15")
    eventually(lambda: "m15:0" in ids(home, "number"), 30)
    status, out, err = follower.end()
    assert status == 1, err
    assert f"batches that fail, and stay in hand: {home.input / '13.avro'}" in out
    assert "a worker died, killed by SIGKILL" in err
    assert "Traceback" not in err

    (tmp_path / "poisoned" / "number.py").write_text(POISON.format(mended="and False"))
    status, out, err = Follower(home, *source, "--exit_when_idle", "100ms", **path).end(None)
    assert (status, "batches that fail" in out) == (0, False), err
    assert ids(home, "number") == ["m12:0", "m13:0", "m14:0", "m15:0"]
