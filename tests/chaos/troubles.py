"""Makes trouble of all kinds for services that capture, their broker, a disk and Arize."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from brokers import Proxy
from conftest import eventually
from lives import spare_moment
from scale import LONG
from test_publishers import PATIENCE, Service, files_in, service, settle

from pipelines.receiver import ArizeReceiver, Fault

MODELS = ["quotes", "quotes", "quotes", "ghosts", "half"]
HEARTBEAT_SECONDS = 1.0
LINGER_SECONDS = 0.3
"""So long that heartbeats often count what a kill then takes from memory."""
SPOOL_SECONDS = 0.4
"""Shorter than that, as in a service: what a kill takes with it came since the last heartbeat."""
MOST_A_SECOND = 60
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
    killed: list[Service] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Start one more service."""
        more = {"models": MODELS, "heartbeat": HEARTBEAT_SECONDS, "linger": LINGER_SECONDS}
        more["spool_seconds"] = SPOOL_SECONDS
        running = service(self.line, self.spool, self.random, **more)  # type: ignore[arg-type]
        one = self.stack.enter_context(running)
        one.tell(f"rate {self.random.randrange(20, MOST_A_SECOND)}")
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
            self.kill,
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

    def kill(self) -> None:
        """Kill a service with -9 while it captures, and start the next one."""
        one = self.running.pop(self.random.randrange(len(self.running)))
        eventually(lambda: bool(one.ids), PATIENCE)
        one.kill()
        self.killed.append(one)
        self.begin()

    def end(self) -> None:
        """Close all services, once nothing of them or of those that were killed waits."""
        self.receiver._faults.clear()
        for one in self.running:
            settle(one)
        eventually(lambda: not files_in(self.spool), PATIENCE)
        for one in self.running:
            one.tell("close")
        self.ended += self.running
        self.running = []

    def _wait(self) -> None:
        spare_moment(self.random, 8.0 if LONG else 0.7)
