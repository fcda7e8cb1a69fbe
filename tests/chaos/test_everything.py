"""All that can go wrong in one run: services, broker, follower, disk and Arize. Nothing is lost."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from brokers import Proxy
from conftest import Emulator, eventually
from feeds import Topic
from lives import FRONT, GROUP, Kills, Life, end_all, spare_moment
from scale import LONG, SEED
from test_followers import IDLE, Followed
from test_publishers import Service, kept, mount, service, settle

from pipelines.cli import _main
from pipelines.receiver import ArizeReceiver, Fault

pytestmark = pytest.mark.filterwarnings("ignore:The return_immediately")
SECONDS = 600.0 if LONG else 20.0
SERVICES = 2
MODELS = ["quotes", "quotes", "quotes", "ghosts", "half"]
ROOM = "512m"
FAULTS = (
    Fault(status=429, headers={"retry-after": "1"}),
    Fault(status=500),
    Fault(status=302, headers={"location": "/"}),
    Fault(reset=True),
    Fault(status=200, body=b"<html>hello</html>"),
    Fault(hang=35.0 if LONG else 1.0),
)


@dataclass
class Line:
    """What `service` takes for a broker: a topic behind a proxy."""

    topic: str
    proxy: Proxy


@dataclass
class Troubles:
    """Makes trouble of all kinds, one after the other, and puts each right again."""

    random: Random
    line: Line
    receiver: ArizeReceiver
    disk: Path
    spool: Path
    stack: ExitStack
    running: list[Service] = field(default_factory=list)
    ended: list[Service] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Start one more service."""
        more = {"models": MODELS, "heartbeat": 0.5}
        one = self.stack.enter_context(service(self.line, self.spool, self.random, **more))  # type: ignore[arg-type]
        one.tell(f"rate {self.random.randrange(20, 60)}")
        self.running.append(one)

    def next(self) -> None:
        """One of them."""
        kinds: tuple[Callable[[], None], ...] = (
            self.stall,
            self.cut,
            self.refuse,
            self.arize,
            self.arize,
            self.fill,
            self.redeploy,
        )
        kind = self.random.choice(kinds)
        self.met[kind.__name__] = self.met.get(kind.__name__, 0) + 1
        kind()

    def stall(self) -> None:
        self.line.proxy.hold()
        self._wait()
        self.line.proxy.go_on()

    def cut(self) -> None:
        self.line.proxy.cut()

    def refuse(self) -> None:
        self.line.proxy.refuse()
        self._wait()
        self.line.proxy.accept()

    def arize(self) -> None:
        self.receiver.fail(self.random.choice(FAULTS), self.random.randint(1, 6))
        self._wait()

    def fill(self) -> None:
        """Leave no room where the follower writes."""
        filler = self.disk / "filler"
        if self.disk.is_mount():
            with suppress(OSError), open(filler, "wb", buffering=0) as stream:
                while stream.write(bytes(1 << 16)) == 1 << 16:
                    pass
            self._wait()
            filler.unlink()

    def redeploy(self) -> None:
        """End a service as a rollout does, whatever the broker does, and start the next one."""
        self.begin()
        one = self.running.pop(0)
        one.tell("close")
        self.ended.append(one)

    def _wait(self) -> None:
        spare_moment(self.random, 8.0 if LONG else 0.7)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own if there are rights to mount one, else a folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False
    with suppress(OSError):
        mounted = mount("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder))
    yield folder
    end_all()
    if mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def receiver() -> Iterator[ArizeReceiver]:
    with ArizeReceiver("key", "space") as receiver:
        yield receiver
        end_all()


def torment(followed: Followed, random: Random, over: threading.Event) -> Kills:
    """Keep a follower running, and kill it at random moments; it may also end by itself."""
    kills = Kills()
    while not over.is_set():
        life = followed.start("--workers", random.choice(("1", "1", "2")), "--archive_age", "30s")
        kills.starts += 1
        with suppress(AssertionError):  # it may have nothing to do, or no room to do it
            eventually(partial(_has_worked, life, over), 10)
        spare_moment(random, 6.0 if LONG else 2.0)
        if life.runs:
            kills.moments.update(life.under_way() or {"between steps"})
        life.kill(random.choice((FRONT, GROUP)))
    return kills


def _has_worked(life: Life, over: threading.Event) -> bool:
    return over.is_set() or not life.runs or life.times("done") >= 1


def ledger(home: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    capsys.readouterr()
    packaged = ["--extractors_package", "freight"]
    code = _main(["ledger", "--home", str(home), *packaged, "--grace", "0s", *more])
    return code, capsys.readouterr().out


def totals(found: dict[str, Any]) -> dict[str, int]:
    """Envelopes by column, over all lines."""
    sums: dict[str, int] = {}
    for line in found["lines"]:
        for name, value in line.items():
            if isinstance(value, dict):
                sums[name] = sums.get(name, 0) + sum(value.values())
            elif isinstance(value, int):
                sums[name] = sums.get(name, 0) + value
    return sums


@pytest.mark.slow
def test_it_balances_to_the_last_envelope(
    tmp_path: Path,
    disk: Path,
    receiver: ArizeReceiver,
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    print(f"\neverything: CHAOS_SEED={SEED}")
    random, over = Random(f"everything {SEED}"), threading.Event()
    topic = Topic(emulator, f"everything-{SEED}")
    line = Line(topic.topic, Proxy())
    line.proxy.target = int(emulator.host.rpartition(":")[2])
    source = ["--input_subscription", topic.subscription]
    followed = Followed(disk, receiver, source, emulator.host)
    followed.keep_logs(tmp_path / "logs")  # what tells of a kill is not on the disk that is full
    with ExitStack() as stack:
        stack.callback(line.proxy.close)
        troubles = Troubles(random, line, receiver, disk, tmp_path / "spool", stack)
        for _ in range(SERVICES):
            troubles.begin()
        kills: list[Kills] = []
        killer = threading.Thread(
            target=lambda: kills.append(torment(followed, Random(f"kills {SEED}"), over))
        )
        killer.start()
        try:
            timer = threading.Timer(SECONDS, over.set)
            timer.start()
            while not over.is_set():
                troubles.next()
                spare_moment(random, 2.0 if LONG else 0.3)
        finally:
            over.set()
            killer.join()
        receiver._faults.clear()
        for one in troubles.running:
            settle(one)
            one.tell("close")
        services = [*troubles.running, *troubles.ended]
    for _ in range(3):
        life = followed.finish(IDLE)
        assert life.ended() == 0, life.output
        if not list((followed.home.folder / "push" / "pending").glob("*.json")):
            break
    captured = [one for service in services for one in service.ids]
    ids = {envelope_id for _, envelope_id in captured}
    code, text = ledger(followed.home.folder, capsys, "--check")
    assert code == 0, text
    found = json.loads(ledger(followed.home.folder, capsys, "--json")[1])
    sums = totals(found)
    accounted = ("sampled_out", "dropped", "committed", "dead_letters", "parked", "skipped")
    assert sums["served"] == len(ids) == sum(sums.get(name, 0) for name in accounted)
    assert sums["sampled_out"] == len(ids) - len(
        kept([(model if model == "half" else "all", id_) for model, id_ in captured])
    )
    assert min(sums[name] for name in ("committed", "dead_letters", "parked")) > 0
    rows = {row["prediction_id"] for row in followed.home.rows("quotes")}
    assert {*receiver.rows("quotes")["prediction_id"].to_pylist()} == rows
    with capsys.disabled():
        kept_rows = f"{sums['committed']:,} committed, {len(receiver.uploads):,} uploads"
        killed = f"{kills[0].starts} starts of the follower, killed {kills[0].count} times"
        print(f"\n{SECONDS:.0f} s, CHAOS_SEED={SEED}: {sums}; {kept_rows}; {killed}")
        print(f"troubles: {troubles.met}; {len(services)} services; ledger: {text.strip()}")
