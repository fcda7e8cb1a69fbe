"""What traffic takes, computed from what was measured: the formulas of `docs/scaling.md`."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.capture.figures import Table

RATES = (1_000, 10_000, 100_000, 1_000_000)
BUSY = 0.6
"""Share of a core that is planned for, so that a worker can catch up."""
CORES_OF_A_WORKER = 4
DAY = 86_400


@dataclass(frozen=True)
class Measured:
    """What the formulas take from measurements.

    Attributes:
        envelope: us of CPU of an envelope, whatever its rows; commits and push are not in it.
        row: us of CPU of each row of it.
        commit: us of CPU of a commit.
        push: us of CPU of a row that goes on to Arize.
        message: bytes of an envelope in a packed message.
        shuffled: bytes of a row between the two halves of the stream.
        file: bytes of a row in a data file.
    """

    envelope: float
    row: float
    commit: float
    push: float
    message: float
    shuffled: float
    file: float


@dataclass(frozen=True)
class Traffic:
    """What arrives.

    Attributes:
        rate: envelopes a second.
        rows: of an envelope.
        tables: that get rows.
        interval: seconds from commit to commit of a table.
        packed: envelopes of a message.
    """

    rate: float
    rows: float = 1.0
    tables: int = 100
    interval: float = 300.0
    packed: int = 500


def cores(traffic: Traffic, measured: Measured) -> float:
    """Cores that are busy all the time."""
    rows = traffic.rate * traffic.rows
    steady = traffic.rate * measured.envelope + rows * (measured.row + measured.push)
    return (steady + traffic.tables / traffic.interval * measured.commit) / 1e6


def plan(measured: Measured, like: Traffic) -> Table:
    """What each of `RATES` takes, where all else is like this traffic."""
    table = Table(
        f"{like.rows:g} row an envelope, {like.tables} tables committed each {like.interval:g} s, "
        f"{like.packed} envelopes a message",
        [
            "envelopes/s",
            "busy cores",
            f"workers of {CORES_OF_A_WORKER} vCPU, {BUSY:.0%} busy",
            "messages/s",
            "Pub/Sub, MB/s",
            "shuffle, MB/s",
            "tables, GB a day",
            "commits a day",
        ],
    )
    for rate in RATES:
        traffic = Traffic(rate, like.rows, like.tables, like.interval, like.packed)
        busy, rows = cores(traffic, measured), rate * traffic.rows
        table.rows.append(
            [
                f"{rate:,}",
                f"{busy:,.2f}" if busy < 10 else f"{busy:,.0f}",
                f"{max(1, -(-busy // (CORES_OF_A_WORKER * BUSY))):,.0f}",
                f"{rate / traffic.packed:,.0f}",
                f"{rate * measured.message / 1e6:,.1f}",
                f"{rows * measured.shuffled / 1e6:,.1f}",
                f"{rows * measured.file * DAY / 1e9:,.0f}",
                f"{traffic.tables * DAY / traffic.interval:,.0f}",
            ]
        )
    return table
