"""Calls at a steady rate, as of a service that is busy but not overloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.capture import http_sink
from benchmarks.capture.children import Child
from benchmarks.capture.figures import Aim, Part, Table, micros, middle, quiet
from benchmarks.capture.pacing import ASYNCIO, CALLERS, Window, window
from benchmarks.capture.payloads import described, payloads
from benchmarks.capture.ways import ALL, EMPTY, HEADERS, OURS, PUBLISH, WAYS, Place

MOST_P50, MOST_P50_ALL, MOST_P999 = 3.0, 6.0, 50.0
TIMES_P50, TIMES_P999 = 20, 50
_Found = Mapping[tuple[str, str], list[Window]]
"""By callers and way."""


@dataclass(frozen=True)
class Pace:
    """How long each window is, and how many of each there are."""

    seconds: float = 1.0
    rounds: int = 6
    sizes: tuple[str, ...] = ("1 kB", "20 kB")
    callers: tuple[str, ...] = CALLERS


QUICK = Pace(0.3, 1, ("1 kB",), (CALLERS[0], ASYNCIO))


def measure(pace: Pace, topic: str, host: str, folder: Path, say: Callable[[str], None]) -> Part:
    """Windows of all ways in turn, for each size and kind of callers."""
    part = Part([])
    aims: list[Aim] = []
    with Child(http_sink.serve) as http:
        port = http.answer()
        for size in pace.sizes:
            found = _windows(pace, size, Place(topic, folder, port), host, say)
            part.tables.append(_table(pace.callers, size, found))
            aims += _aims(pace.callers, size, found)
        http.kill()
    part.aims = aims
    return part


def _windows(
    pace: Pace, size: str, place: Place, host: str, say: Callable[[str], None]
) -> dict[tuple[str, str], list[Window]]:
    names = [name for name, way in WAYS.items() if size in way.sizes]
    found: dict[tuple[str, str], list[Window]] = {
        (callers, name): [] for callers in pace.callers for name in names
    }
    with ExitStack() as stack:
        children = {
            name: stack.enter_context(Child(_measure, name, size, place, emulator=host))
            for name in names
        }
        for child in children.values():
            child.answer()
        for callers in pace.callers:
            say(f"paced calls: {size}, {callers}")
            for turn in range(-1, pace.rounds):
                for name, child in children.items():
                    one = child.ask((callers, pace.seconds))
                    if turn >= 0:  # the first is for imports, connections and threads
                        found[callers, name].append(one)
    return found


def _measure(connection: Connection, name: str, size: str, place: Place) -> None:
    way = WAYS[name]
    sink, sent = way.open(place), payloads(size)
    connection.send("ready")
    while (asked := connection.recv()) is not None:
        callers, seconds = asked
        connection.send(window(sink, sent, callers, way.rate, seconds))
    sink.close()


def _table(all_callers: Sequence[str], size: str, found: _Found) -> Table:
    table = Table(
        f"{described(size)}, 2,000 calls a second: us on the calling thread less those of an "
        "empty call, p50 / p99 / p99.9 of quiet windows; process CPU us for each call",
        ["", *all_callers, "p99.9, median", "CPU", "CPU, asyncio"],
    )
    for name, way in WAYS.items():
        if (CALLERS[0], name) not in found:
            continue
        cells = [" / ".join(map(micros, _net(found, callers, name))) for callers in all_callers]
        late = middle(one.p999 for one in found[CALLERS[0], name])
        late -= middle(one.p999 for one in found[CALLERS[0], EMPTY])
        cpu = [_net_cpu(found, callers, name) for callers in (CALLERS[0], ASYNCIO)]
        if name == EMPTY:
            cells = [" / ".join(map(micros, _quiet(found, one, name))) for one in all_callers]
            late = middle(one.p999 for one in found[CALLERS[0], name])
            cpu = [quiet(one.cpu for one in found[who, name]) for who in (CALLERS[0], ASYNCIO)]
        label = way.label + (" (all of it)" if name == EMPTY else "")
        table.rows.append([label, *cells, micros(late), *map(micros, cpu)])
    return table


def _quiet(found: _Found, callers: str, name: str) -> list[float]:
    windows = found[callers, name]
    return [quiet(getattr(one, part) for one in windows) for part in ("p50", "p99", "p999")]


def _net(found: _Found, callers: str, name: str) -> list[float]:
    pairs = zip(_quiet(found, callers, name), _quiet(found, callers, EMPTY))
    return [one - empty for one, empty in pairs]


def _net_cpu(found: _Found, callers: str, name: str) -> float:
    empty = quiet(one.cpu for one in found[callers, EMPTY])
    return quiet(one.cpu for one in found[callers, name]) - empty


def _aims(all_callers: Sequence[str], size: str, found: _Found) -> list[Aim]:
    nets = {key: _net(found, *key) for key in found}
    aims = []
    for name, most in ((OURS, MOST_P50), (HEADERS, MOST_P50_ALL), (ALL, MOST_P50_ALL)):
        worst = max(nets[callers, name][0] for callers in all_callers)
        text = f"{size}: {WAYS[name].label}, p50 at most {most:.0f} us for all callers"
        aims.append(Aim(text, f"{micros(worst)} us", worst <= most))
    worst = max(nets[callers, name][2] for callers in all_callers for name in (OURS, HEADERS, ALL))
    text = f"{size}: p99.9 at most {MOST_P999:.0f} us for all callers"
    aims.append(Aim(text, f"{micros(worst)} us", worst <= MOST_P999))
    for position, label, times in ((0, "p50", TIMES_P50), (2, "p99.9", TIMES_P999)):
        least = min(
            nets[callers, PUBLISH][position] / max(0.1, nets[callers, OURS][position])
            for callers in all_callers
        )
        text = f"{size}: {label} at least {times} times below publish() for all callers"
        aims.append(Aim(text, f"{least:.0f} times", least >= times))
    return aims
