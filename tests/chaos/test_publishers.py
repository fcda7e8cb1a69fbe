"""Publishers whose broker hangs, dies, is slow or refuses, whose disk is full, and that die."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import captures
import pytest
from brokers import Broker, ids_of
from conftest import eventually
from scale import LONG, SEED
from test_spool import spooled

from weighbridge.sampling import Sampling

pytestmark = pytest.mark.filterwarnings("ignore:The return_immediately")
BUDGET = 4 << 20
BEYOND_BUDGET = 24 << 20
"""What gRPC and packing may take besides."""
SAMPLE = {"half": 0.5, "tenth": 0.1}
MODELS = ["all", "half", "tenth", "none-too-many"]
SECONDS = 20.0 if LONG else 0.7
"""How long each state lasts; a call has 5 seconds."""
ROUNDS = 4 if LONG else 1
PATIENCE = 60.0
ROOM = "64m"


@dataclass
class Service:
    """A process that captures.

    Attributes:
        ids: those that it said it has captured, by model.
        begun: of one that was killed, the model of an envelope that it may have captured and not
            said so; its id is the next one.
    """

    process: subprocess.Popen[str]
    ids: list[tuple[str, str]] = field(default_factory=list)
    begun: str = ""
    _answers: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self._answers.append(json.loads(line))
            elif line.endswith("\n"):
                model, envelope_id = line.split()
                self.ids.append((model, envelope_id))
            else:
                self.begun = line.strip()

    def tell(self, command: str) -> dict[str, Any]:
        """Give a command; what it says of itself then."""
        assert self.process.stdin is not None
        count = len(self._answers)
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        eventually(lambda: len(self._answers) > count, PATIENCE)
        return self._answers[-1]

    def kill(self) -> None:
        """Kill it with -9."""
        self.process.kill()
        self.process.wait()

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.tell("stats")["stats"]
        return found


@contextmanager
def service(broker: Broker, spool: Path | None, random: Random, **more: Any) -> Iterator[Service]:
    arguments = {
        "seed": random.randrange(10**9),
        "models": MODELS,
        "size": 1000,
        "spool_seconds": 5.0 if LONG else 0.2,
        "sample": SAMPLE,
        "max_queued_bytes": BUDGET,
        "linger": 0.05,
        "heartbeat": 0.25,
        **more,
    }
    process = subprocess.Popen(
        [sys.executable, captures.__file__, broker.topic, str(spool or ""), json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{broker.proxy.port}"},
        text=True,
    )
    running = Service(process)
    reader = threading.Thread(target=running.read)
    reader.start()
    try:
        yield running
    finally:
        running.kill()
        reader.join()


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.go_on()
    broker.close()


def kept(ids: list[tuple[str, str]]) -> set[str]:
    """Ids of what sampling keeps."""
    shares = {model: Sampling(SAMPLE).share(model) for model in MODELS}
    return {
        envelope_id
        for model, envelope_id in ids
        if (share := shares[model]) is None or share.keeps(envelope_id)
    }


def in_files(spool: Path | None) -> set[str]:
    """Ids of what lies in a spool."""
    messages = [] if spool is None else spooled(spool)
    return {one for m in messages if "envelope_count" in m.attributes for one in ids_of(m)}


def balanced(counts: dict[str, Any]) -> bool:
    """Whether everything that was served is accounted for."""
    dropped = sum(counts["dropped"].values())
    names = ("sampled_out", "published", "spooled")
    return bool(counts["served"] == dropped + sum(counts[name] for name in names))


def check(broker: Broker, running: Service, spool: Path | None, stats: dict[str, Any]) -> str:
    """Compare what a service has counted, when nothing is queued, with what has arrived."""
    broker.drain()
    assert stats["queued"] == 0
    assert balanced(stats) and all(map(balanced, stats["models"].values()))
    expected, files = kept(running.ids), in_files(spool)
    dropped = sum(stats["dropped"].values())
    assert stats["served"] == len(running.ids)
    assert stats["sampled_out"] == len(running.ids) - len(expected)
    # What is dropped may have arrived, when a broker took it and did not say so in time.
    eventually(lambda: len(expected - set(broker.arrived) - files) <= dropped, PATIENCE)
    arrived = set(broker.arrived)
    assert arrived <= expected and files <= expected
    missing = len(expected - arrived - files)
    assert stats["spooled"] <= len(files)
    assert len(arrived) >= stats["published"]
    publisher_id = running.ids[0][1].rpartition("-")[0]
    twice = sum(broker.arrived.values()) - len(arrived)
    told = {name: stats[name] for name in ("served", "sampled_out", "published", "spooled")}
    eventually(lambda: beat_says(broker, publisher_id, stats["models"]), PATIENCE)
    return f"{told} dropped {stats['dropped']} missing {missing} twice {twice}"


def beat_says(broker: Broker, publisher_id: str, stats: dict[str, Any]) -> bool:
    """Whether the last heartbeat has the same counts, model by model."""
    beat = broker.beats.get(publisher_id, {"models": []})
    told = {one["model_id"]: {**one, "queued": 0} for one in beat["models"]}
    return told == {model_id: {**one, "model_id": model_id} for model_id, one in stats.items()}


@contextmanager
def hung(broker: Broker) -> Iterator[None]:
    broker.stop()
    yield
    broker.go_on()


@contextmanager
def restarted(broker: Broker) -> Iterator[None]:
    broker.kill()
    yield
    broker.start()


@contextmanager
def slow(broker: Broker) -> Iterator[None]:
    broker.proxy.delay = 0.3
    yield
    broker.proxy.delay = 0.0


@contextmanager
def refused(broker: Broker) -> Iterator[None]:
    broker.proxy.refuse()
    yield
    broker.proxy.accept()


STATES: list[Callable[[Broker], Any]] = [hung, restarted, slow, refused]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own if there are rights to mount one, else a folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False
    with suppress(OSError):
        mounted = mount("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder))
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


def mount(*arguments: str) -> bool:
    return not subprocess.run(["mount", *arguments], capture_output=True).returncode


@contextmanager
def full(running: Service, disk: Path) -> Iterator[None]:
    """No room for the spool: its disk is small, or its files are not to grow."""
    pid, files = running.process.pid, resource.RLIMIT_FSIZE
    if os.path.ismount(disk):
        assert mount("-o", "remount,size=4k", str(disk))
        yield
        assert mount("-o", f"remount,size={ROOM}", str(disk))
    else:
        before = resource.prlimit(pid, files, (100, resource.RLIM_INFINITY))
        yield
        resource.prlimit(pid, files, before)


def settle(running: Service) -> dict[str, Any]:
    """Stop capturing, and wait until nothing is on its way any more."""
    running.tell("rate 0")
    found: dict[str, Any] = {}

    def done() -> bool:
        found.update(running.stats())
        return bool(found["queued"] == found["spooled"] == 0)

    eventually(done, PATIENCE)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("with_spool", [True, False], ids=["spool", "memory"])
def test_brokers_that_fail(disk: Path, broker: Broker, with_spool: bool) -> None:
    """Whatever its broker does, all that is served is accounted for, in bounded memory."""
    random = Random(SEED)
    print(f"\nbrokers that fail: CHAOS_SEED={SEED}")
    spool = disk if with_spool else None
    full_by = random.choice(["drop_newest", "drop_oldest"])
    budget = BUDGET if with_spool else BUDGET // 16
    more = {"when_full": full_by, "max_queued_bytes": budget}
    with service(broker, spool, random, **more) as running:
        running.tell("rate 800")
        eventually(lambda: running.stats()["published"] > 300, PATIENCE)
        first = running.tell("stats")
        most: Counter[str] = Counter()
        for state in random.sample(STATES * ROUNDS, len(STATES) * ROUNDS):
            with state(broker):
                watch(running, random.uniform(0.5, 1) * SECONDS, most)
            print(f"{state.__name__}: {check(broker, running, spool, settle(running))}")
            running.tell("rate 800")
        if with_spool:
            with refused(broker):
                with full(running, disk):
                    watch(running, 2 * SECONDS, most)
                    assert not running.stats()["spooled"]
                if LONG:  # it looks each five seconds whether there is room again
                    eventually(lambda: running.stats()["spooled"] > 0, PATIENCE)
            print(f"full disk: {check(broker, running, spool, settle(running))}")
        last = running.tell("close")
        grown = most["resident"] - first["resident"]
        print(f"memory +{grown >> 20} MB, threads {most['threads']}, of ours {most['ours']}")
        assert grown < BUDGET + BEYOND_BUDGET
        assert most["ours"] <= 3
        assert most["threads"] <= first["threads"] + 4
        check(broker, running, spool, last["stats"])


def watch(running: Service, seconds: float, most: Counter[str]) -> None:
    """Let time go by, and note the most that the service takes."""
    steps = max(1, round(seconds / 0.2))
    for _ in range(steps):
        threading.Event().wait(seconds / steps)
        said = running.tell("stats")
        assert said["stats"]["served"] >= sum(
            said["stats"][name] for name in ("published", "spooled", "queued")
        )
        most |= Counter({name: said[name] for name in ("resident", "threads", "ours")})


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(None, id="healthy", marks=pytest.mark.slow),
        pytest.param(refused, id="refused", marks=pytest.mark.slow),
        pytest.param(hung, id="hung"),
    ],
)
def test_services_that_are_killed(
    tmp_path: Path, broker: Broker, state: Callable[[Broker], Any] | None
) -> None:
    """A kill costs what was captured since the last poll; the spool is sent by the next one."""
    random = Random(SEED)
    print(f"\nservices that are killed: CHAOS_SEED={SEED}")
    lost = expected = 0
    for _ in range(10 if LONG else 1):
        with service(broker, tmp_path, random) as running:
            running.tell("rate 800")
            eventually(lambda: running.stats()["published"] > 100, PATIENCE)
            if state is None:
                threading.Event().wait(random.uniform(0, 0.5))
                before = killed(running)
            else:
                with state(broker):
                    eventually(lambda: running.stats()["spooled"] > 100, PATIENCE)
                    threading.Event().wait(random.uniform(0, 0.5))
                    before = killed(running)
        with service(broker, tmp_path, random) as following:
            following.tell("rate 20")
            eventually(lambda: not files_in(tmp_path), PATIENCE)
            stats = settle(following)
            following.tell("close")
        broker.drain()
        eventually(lambda: kept(following.ids) <= set(broker.arrived), PATIENCE)
        ids = kept(running.ids)
        gone = ids - set(broker.arrived)
        assert stats["recovered"] >= before["spooled"] - before["published"]
        # What was served after `before`, or was in memory then.
        since = len(running.ids) - before["served"] + before["queued"]
        assert len(gone) <= since
        beat = broker.beats[running.ids[0][1].rpartition("-")[0]]
        settled = sum(
            one["sampled_out"] + one["published"] + one["spooled"] + sum(one["dropped"].values())
            for one in beat["models"]
        )
        unsettled = len(running.ids) - settled
        assert len(gone) <= unsettled
        print(
            f"lost {len(gone)} of {len(ids)} that were kept; of {len(running.ids)} served, {since} "
            f"were in memory or came since stats() was read, {unsettled} since the last heartbeat"
        )
        lost, expected = lost + len(gone), expected + len(ids)
    print(f"lost in all {lost} of {expected}")


def files_in(spool: Path) -> list[str]:
    """Names of files to send."""
    return [name for _, _, names in os.walk(spool) for name in names if name.endswith(".avro")]


def killed(running: Service) -> dict[str, Any]:
    """Kill it with -9; the counts that it told last."""
    before = running.stats()
    running.kill()
    return before
