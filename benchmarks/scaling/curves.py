"""Curves: one thing grows, the others stay, and CPU time by stage is taken at each point."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.capture.figures import Table
from benchmarks.homes import Homes
from benchmarks.scaling.stages import CALL, CHECK, COMMIT, DECODE, ENCODE, REST, STAGES, WRITE
from benchmarks.scaling.steps import Passed, Steps
from benchmarks.traffic import Traffic, batches
from weighbridge.archive import Message
from weighbridge.wire import pack

MANY = "benchmarks.models.many"
Say = Callable[[str], None]
EXTRACT = (DECODE, CALL, CHECK, ENCODE, REST)


@dataclass(frozen=True)
class Point:
    """One point of a curve: traffic, messages of a bundle, and how often it is committed."""

    label: str
    traffic: Traffic
    bundle: int = 10
    panes: int = 1


@dataclass
class Found:
    """What the rounds of a point gave; CPU in microseconds, medians of the rounds."""

    point: Point
    rounds: list[Passed] = field(default_factory=list)

    def micros(self, *stages: str) -> float:
        """In these stages, for each envelope."""
        spent = [sum(one.stages.spent[stage] for stage in stages) for one in self.rounds]
        return median(spent) / 1000 / self.point.traffic.envelopes

    @property
    def last(self) -> Passed:
        """One of the rounds, for what is the same in all of them."""
        return self.rounds[-1]


@dataclass(frozen=True)
class Sizes:
    """How much each point handles."""

    envelopes: int = 40_000
    rows: int = 200_000
    rounds: int = 3
    models: tuple[int, ...] = (1, 10, 100, 1000)
    commits: tuple[int, ...] = (1, 10, 100, 400)


QUICK = Sizes(2_000, 4_000, 1, (1, 10), (1, 4))


def by_rows(sizes: Sizes, folder: Path, say: Say) -> tuple[Table, list[Found]]:
    """Rows of an envelope."""
    counts = (1, 2, 5, 10, 20, 50)
    points = [
        Point(f"{rows}", Traffic("rows", max(500, sizes.envelopes // rows), rows=rows, models=1))
        for rows in counts
    ]
    found = _measured(points, sizes.rounds, folder, say)
    table = Table(
        "CPU us of an envelope by its rows",
        ["rows", *STAGES, "all", "of a row", "all but commit, by the line"],
    )
    line = fitted([one.point.traffic.rows for one in found], [uncommitted(one) for one in found])
    for one in found:
        all_, rows = one.micros(*STAGES), one.point.traffic.rows
        cells = [*(one.micros(stage) for stage in STAGES), all_, all_ / rows, line(rows)]
        table.rows.append([one.point.label, *map(_number, cells)])
    return table, found


def by_bytes(sizes: Sizes, folder: Path, say: Say) -> tuple[Table, list[Found]]:
    """JSON of an envelope, that one row is made of whatever its size."""
    paddings = (0, 1_000, 4_000, 16_000, 64_000)
    points = []
    for padding in paddings:
        envelopes = max(200, sizes.envelopes // (1 + padding // 2_000))
        most = max(10, 400_000 // (1_000 + padding))
        traffic = Traffic("bytes", envelopes, models=1, fewest=most, most=most, padding=padding)
        points.append(Point(f"{padding + 800:,}", traffic))
    found = _measured(points, sizes.rounds, folder, say)
    table = Table(
        "CPU us of an envelope by its bytes of JSON", ["bytes", *STAGES, "all", "MB/s of a core"]
    )
    for one in found:
        all_, size = one.micros(*STAGES), one.point.traffic.padding + 800
        cells = [*(one.micros(stage) for stage in STAGES), all_, size / all_]
        table.rows.append([one.point.label, *map(_number, cells)])
    return table, found


def by_bundle(sizes: Sizes, folder: Path, say: Say) -> tuple[Table, list[Found]]:
    """Envelopes of a message, and messages of a bundle: a stream with little traffic has few."""
    shapes = ((1, 1), (1, 10), (10, 1), (10, 10), (100, 1), (100, 10), (500, 1), (500, 10))
    points = []
    for packed, bundle in shapes:
        envelopes = max(500, sizes.envelopes // (10 if packed * bundle < 100 else 1))
        traffic = Traffic("bundle", envelopes, models=1, fewest=packed, most=packed)
        points.append(Point(f"{packed} x {bundle}", traffic, bundle))
    found = _measured(points, sizes.rounds, folder, say)
    table = Table(
        "CPU us of an envelope by the envelopes of a message x messages of a bundle",
        ["", "ExtractRows", WRITE, "all but commit", "bytes between them"],
    )
    for one in found:
        cells = [one.micros(*EXTRACT), one.micros(WRITE), uncommitted(one)]
        shuffled = one.last.shuffled / one.point.traffic.envelopes
        table.rows.append([one.point.label, *map(_number, cells), f"{shuffled:,.0f}"])
    return table, found


def by_models(sizes: Sizes, folder: Path, say: Say) -> tuple[Table, list[Found]]:
    """Models that share the same rows, each table committed once."""
    os.environ["WEIGHBRIDGE_BENCH_MODELS"] = str(max(sizes.models))
    points = [
        Point(
            f"{models:,}",
            Traffic("models", sizes.rows, models=models, fewest=100, most=100),
            bundle=100,
        )
        for models in sizes.models
    ]
    found = _measured(points, min(2, sizes.rounds), folder, say, MANY)
    table = Table(
        f"CPU us of a row by models, {sizes.rows:,} rows in all",
        ["models", "rows of each", "ExtractRows", WRITE, COMMIT, "all", "ms of a commit"],
    )
    for one in found:
        commits = one.micros(COMMIT) * sizes.rows / 1000 / one.last.commits
        cells = [one.micros(*EXTRACT), one.micros(WRITE), one.micros(COMMIT), one.micros(*STAGES)]
        rows = sizes.rows // one.point.traffic.models
        table.rows.append([one.point.label, f"{rows:,}", *map(_number, [*cells, commits])])
    return table, found


def by_commits(sizes: Sizes, folder: Path, say: Say) -> tuple[Table, list[Found]]:
    """Commits that the rows of one model are shared among: a shorter interval makes more."""
    traffic = Traffic("commits", sizes.rows // 2, models=1, fewest=50, most=50)
    points = [Point(f"{panes:,}", traffic, 10, panes) for panes in sizes.commits]
    found = _measured(points, min(2, sizes.rounds), folder, say)
    table = Table(
        f"CPU us and bytes of a row by commits, {traffic.envelopes:,} rows of one model in all",
        ["commits", "rows of each", WRITE, COMMIT, "ms of a commit", "data file", "metadata"],
    )
    for one in found:
        count = one.point.traffic.envelopes
        commits = one.micros(COMMIT) * count / 1000 / one.last.commits
        cells = [one.micros(WRITE), one.micros(COMMIT), commits]
        cells += [one.last.file_bytes / count, one.last.metadata_bytes / count]
        rows = count // one.point.panes
        table.rows.append([one.point.label, f"{rows:,}", *map(_number, cells)])
    return table, found


def fitted(x: Sequence[float], y: Sequence[float]) -> Callable[[float], float]:
    """The straight line with the least squares of relative errors."""
    slope, base = np.polyfit(x, y, 1, w=1 / np.asarray(y))
    return lambda at: float(base + slope * at)


@lru_cache(maxsize=8)
def messages_of(traffic: Traffic) -> list[Message]:
    """The messages of traffic, in memory."""
    made: list[Message] = []
    for batch, _ in batches(traffic):
        attributes, data = pack(batch)
        published = batch["event_time"][-1] + 1_000_000
        made.append(Message(data, attributes, f"{len(made):012}", published))
    return made


def _measured(
    points: Sequence[Point],
    rounds: int,
    folder: Path,
    say: Say,
    package: str = "benchmarks.models.dicts",
) -> list[Found]:
    found = [Found(point) for point in points]
    for number in range(rounds + 1):
        for one in found:
            point = one.point
            small = replace(point, traffic=replace(point.traffic, envelopes=500))
            # The first round is to warm up, and small.
            chosen = point if number else small
            passed = _passed(chosen, folder, package)
            if number:
                say(f"{point.traffic.name} {point.label}: round {number} of {rounds}")
                one.rounds.append(passed)
    return found


def _passed(point: Point, folder: Path, package: str) -> Passed:
    steps = Steps(package, Homes(folder))
    passed = steps.run(messages_of(point.traffic), point.bundle, point.panes)
    wanted = point.traffic.envelopes * point.traffic.rows
    if passed.rows != wanted:
        raise AssertionError(f"{passed.rows} rows were written, and not {wanted}")
    return passed


def uncommitted(one: Found) -> float:
    """CPU us of an envelope in all stages but the commit."""
    return one.micros(*(stage for stage in STAGES if stage != COMMIT))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


CURVES: dict[str, Callable[[Sizes, Path, Say], tuple[Table, list[Found]]]] = {
    "rows": by_rows,
    "bytes": by_bytes,
    "bundle": by_bundle,
    "models": by_models,
    "commits": by_commits,
}
