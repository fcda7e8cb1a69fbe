"""All that can go wrong in one run: services, broker, follower, disk and Arize.

What is lost is what a service had in its memory when it was killed, and the ledger says so.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
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
from support import Home
from test_followers import IDLE, Followed
from test_publishers import Service, kept, mount
from troubles import HEARTBEAT_SECONDS, MOST_A_SECOND, Line, Troubles

from pipelines.cli import _main
from pipelines.receiver import ArizeReceiver

pytestmark = pytest.mark.filterwarnings("ignore:The return_immediately")
SECONDS = 600.0 if LONG else 20.0
SERVICES = 2
ROOM = "512m"


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


@dataclass(frozen=True)
class Told:
    """What a service said, beside what the tables hold of it.

    Attributes:
        ids: of all that it has captured, by model.
        here: those that are in a table, by what kind of one: a dead letter, parked, skipped.
        counted: how many envelopes its last heartbeat counts; None if none of it has arrived.
    """

    ids: list[tuple[str, str]]
    here: set[str]
    counted: int | None

    @property
    def gone(self) -> set[int]:
        """Numbers of what sampling keeps and is nowhere."""
        return set(map(number_of, kept(named(self.ids)) - self.here))


def number_of(envelope_id: str) -> int:
    return int(envelope_id.rpartition("-")[2])


def named(captured: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """As `kept` takes them, which knows the shares of its own models only."""
    return [(model if model == "half" else "all", id_) for model, id_ in captured]


def told_by(services: list[Service], home: Home) -> dict[str, Told]:
    """What services said and what came of it, by publisher."""
    tables = (("quotes", "models"), *((name, "weighbridge") for name in ("skipped", "parked")))
    here = {row["envelope_id"] for table in tables for row in home.rows(*table)}
    here |= {row["failed_envelope_id"] for row in home.rows("failures", "weighbridge")}
    counted: dict[str, int] = {}
    for beat in home.rows("heartbeats", "weighbridge"):
        counted[beat["publisher_id"]] = max(beat["sequence"], counted.get(beat["publisher_id"], 0))
    found = {}
    for one in services:
        publisher = one.ids[0][1].rpartition("-")[0]
        last = f"{publisher}-{len(one.ids)}"
        # It may have captured one more than it has said.
        more = last in here or counted.get(publisher, 0) > len(one.ids)
        ids = [*one.ids, *([(one.begun, last)] if more else [])]
        assert [number_of(id_) for _, id_ in ids] == list(range(len(ids)))
        found[publisher] = Told(ids, here & {id_ for _, id_ in ids}, counted.get(publisher))
    assert not here - {id_ for told in found.values() for _, id_ in told.ids}
    return found


def check_killed(standing: dict[str, Any], told: Told) -> tuple[int, int]:
    """What a kill has cost is what the ledger says; envelopes that it names, and newer ones."""
    assert standing["state"] == "silent" and standing["served"] == told.counted
    numbers = {n for a, b in standing["holes"] for n in range(a, b + 1)}
    lost = {number for number in told.gone if number < (told.counted or 0)}
    newer = told.gone - lost
    assert standing["missing"] == len(lost) and lost <= numbers
    assert standing["balances"] == (not lost)
    most = standing["lost_since_last_heartbeat_at_most"]
    assert len(newer) <= most + 2 * HEARTBEAT_SECONDS * MOST_A_SECOND
    return len(lost), len(newer)


def check_books(
    troubles: Troubles, home: Home, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, int], str]:
    """The ledger says of each service what is true; its sums, and what kills have cost."""
    found = json.loads(ledger(home.folder, capsys, "--json")[1])
    sums, said = totals(found["lines"]), told_by([*troubles.ended, *troubles.killed], home)
    ended = {one.ids[0][1].rpartition("-")[0] for one in troubles.ended}
    standings = {one["publisher"]: one for one in found["publishers"]}
    assert set(standings) == {name for name, told in said.items() if told.counted is not None}
    for name in ended:
        one, told = standings[name], said[name]
        assert (one["state"], one["missing"], one["balances"]) == ("closed", 0, True)
        assert one["served"] == len(told.ids) and not told.gone
    costs = [check_killed(standings[name], said[name]) for name in set(standings) - ended]
    counted = [told.ids[: told.counted] for told in said.values() if told.counted is not None]
    served = [each for ids in counted for each in ids]
    missing, newer = (sum(numbers) for numbers in zip((0, 0), *costs))
    accounted = ("sampled_out", "dropped", "committed", "dead_letters", "parked", "skipped")
    assert sums["served"] == len(served) == missing + sum(sums.get(name, 0) for name in accounted)
    assert sums["sampled_out"] == len(served) - len(kept(named(served)))
    unheard = sum(len(told.here) for told in said.values() if told.counted is None)
    assert sum(totals(found["without_heartbeats"]).values()) == unheard
    code, text = ledger(home.folder, capsys, "--check")
    assert code == (3 if missing else 0), text
    cost = f"{len(troubles.killed)} killed, {missing} missing, {newer} newer than heartbeats"
    return sums, f"{cost}; the ledger's last word: {text.splitlines()[-1]}"


def totals(lines: list[dict[str, Any]]) -> dict[str, int]:
    """Envelopes by column, over all lines."""
    sums: dict[str, int] = {}
    for line in lines:
        for name, value in line.items():
            if isinstance(value, dict):
                sums[name] = sums.get(name, 0) + sum(value.values())
            elif isinstance(value, int):
                sums[name] = sums.get(name, 0) + value
    return sums


def make_trouble(troubles: Troubles, followed: Followed, random: Random) -> Kills:
    """All of it, while a follower is killed again and again; what its kills have met."""
    over, kills = threading.Event(), list[Kills]()
    killing = Random(f"kills {SEED}")
    killer = threading.Thread(target=lambda: kills.append(torment(followed, killing, over)))
    timer = threading.Timer(SECONDS, over.set)
    killer.start()
    timer.start()
    try:
        while not over.is_set():
            troubles.next()
            spare_moment(random, 2.0 if LONG else 0.3)
    finally:
        over.set()
        killer.join()
    troubles.end()
    return kills[0]


def finish(followed: Followed) -> None:
    """Let a follower run until nothing waits, in the subscription or for Arize."""
    for _ in range(3):
        life = followed.finish(IDLE)
        assert life.ended() == 0, life.output
        if not list((followed.home.folder / "push" / "pending").glob("*.json")):
            break


@pytest.mark.slow
def test_it_balances_to_the_last_envelope(
    tmp_path: Path,
    disk: Path,
    receiver: ArizeReceiver,
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    print(f"\neverything: CHAOS_SEED={SEED}")
    random = Random(f"everything {SEED}")
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
        kills = make_trouble(troubles, followed, random)
    finish(followed)
    sums, said = check_books(troubles, followed.home, capsys)
    assert min(sums[name] for name in ("committed", "dead_letters", "parked")) > 0
    rows = {row["prediction_id"] for row in followed.home.rows("quotes")}
    assert {*receiver.rows("quotes")["prediction_id"].to_pylist()} == rows
    with capsys.disabled():
        ended = f"{len(troubles.ended)} services ended, {said}"
        killed = f"{kills.starts} starts of the follower, killed {kills.count} times"
        print(f"\n{SECONDS:.0f} s, CHAOS_SEED={SEED}: {sums}; {len(receiver.uploads):,} uploads")
        print(f"troubles: {troubles.met}; {killed}; {ended}")
