"""A service under load: what its throughput and its CPU time for each request become."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.capture import client, service
from benchmarks.capture.children import Child, cpu_ns
from benchmarks.capture.figures import Aim, Part, Table, middle, quiet
from benchmarks.capture.payloads import described
from benchmarks.capture.service import LABELS, MIDDLEWARE, NONE
from benchmarks.capture.ways import OURS, Place

MOST_CPU = 15.0
_SIZE = "1 kB"
_SETTLE_SECONDS = 1.0
"""So that what a thread sends afterwards is seen, too."""


@dataclass(frozen=True)
class Load:
    """How long each window is, and how many of each there are."""

    seconds: float = 2.0
    rounds: int = 12


QUICK = Load(0.5, 1)


@dataclass(frozen=True)
class _Seen:
    rate: float
    cpu: float
    p50: float
    p99: float


def measure(load: Load, topic: str, host: str, folder: Path, say: Callable[[str], None]) -> Part:
    """Windows of all services in turn, which all run all the time."""
    seen: dict[str, list[_Seen]] = {name: [] for name in LABELS}
    with ExitStack() as stack:
        caller = stack.enter_context(Child(client.call, _SIZE))
        place = Place(topic, folder)
        services = {
            name: stack.enter_context(Child(service.serve, name, place, emulator=host))
            for name in LABELS
        }
        ports = {name: child.answer() for name, child in services.items()}
        for turn in range(-1, load.rounds):
            say(f"under load: round {turn + 1} of {load.rounds}")
            for name, child in services.items():
                one = _window(child.pid, caller, ports[name], load.seconds)
                if turn >= 0:
                    seen[name].append(one)
        for child in services.values():
            child.kill()
    return Part([_table(load, seen)], _aims(seen))


def _window(pid: int, caller: Child, port: int, seconds: float) -> _Seen:
    cpu = cpu_ns(pid)
    calls, (p50, p99, _) = caller.ask((port, seconds))
    time.sleep(_SETTLE_SECONDS)
    return _Seen(calls / seconds, (cpu_ns(pid) - cpu) / calls / 1000, p50 / 1000, p99 / 1000)


def _added(seen: dict[str, list[_Seen]], name: str) -> list[float]:
    """CPU us that a request costs more than without capture, round by round."""
    return [one.cpu - none.cpu for one, none in zip(seen[name], seen[NONE], strict=True)]


def _table(load: Load, seen: dict[str, list[_Seen]]) -> Table:
    table = Table(
        f"{described(_SIZE)}, uvicorn and starlette, {client.CONNECTIONS} connections, "
        f"{load.rounds} rounds of {load.seconds:g} s: server CPU us for each request",
        [
            "",
            "requests/s (best)",
            "share",
            "CPU us",
            "more",
            "more, quiet",
            "p50, ms",
            "p99, ms",
        ],
    )
    for name, label in LABELS.items():
        found = seen[name]
        ratios = [one.rate / none.rate for one, none in zip(found, seen[NONE], strict=True)]
        cpu, least = quiet(one.cpu for one in found), quiet(one.cpu for one in seen[NONE])
        added = ["", ""] if name == NONE else [f"{middle(_added(seen, name)):+.0f}"]
        table.rows.append(
            [
                label,
                f"{middle(one.rate for one in found):,.0f} ({max(one.rate for one in found):,.0f})",
                f"{middle(ratios):.2f}",
                f"{cpu:.0f}",
                *(added if name == NONE else [*added, f"{cpu - least:+.0f}"]),
                f"{middle(one.p50 for one in found):.1f}",
                f"{middle(one.p99 for one in found):.1f}",
            ]
        )
    return table


def _aims(seen: dict[str, list[_Seen]]) -> list[Aim]:
    aims = []
    for name in (OURS, MIDDLEWARE):
        added = middle(_added(seen, name))
        text = f"under load, {LABELS[name]}: at most {MOST_CPU:.0f} us of CPU more a request"
        aims.append(Aim(text, f"{added:.0f} us", added <= MOST_CPU))
    return aims
