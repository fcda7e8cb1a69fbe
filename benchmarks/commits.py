"""`python -m benchmarks.commits`: what a commit costs as a table grows, and reading it then."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.machine import machine
from pipelines.files import write_files
from pipelines.maintain.upkeep import Upkeep
from pipelines.outbox import Outbox
from pipelines.tables import Tables
from schemas.arrow import TIME

COLUMNS = 16
OURS, PLAIN, APPEND = "Weighbridge", "plain Parquet, fsync and rename", "PyIceberg append"
NAME, APPENDED = "models.ours", "models.appended"
MOMENTS = {"2nd-20th": slice(1, 20), "last 20": slice(-20, None)}
START = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(minutes=4)
"""Between commits: 300 are a day's."""
LIBRARIES = ["pyarrow", "pyiceberg"]
console = Console(highlight=False, width=110)


@click.command()
@click.option("--quick", is_flag=True, help="Few commits: whether all of it works.")
@click.option("--commits", type=click.IntRange(min=30), default=300, show_default=True)
@click.option("--rows", "sizes", multiple=True, default=(500, 10_000), show_default=True, type=int)
def main(quick: bool, commits: int, sizes: tuple[int, ...]) -> None:
    """Measure commits of so many rows, one way after the other, commit by commit."""
    logging.disable(logging.WARNING)
    console.print(machine(LIBRARIES))
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as folder:
            _measure(Path(folder), 40 if quick else commits, rows)


def _measure(folder: Path, commits: int, count: int) -> None:
    tables = _tables(folder, batch(0, 1).schema)
    outbox = Outbox(folder)
    took: dict[str, list[float]] = defaultdict(list)
    for number in range(commits):
        rows = batch(number, count)
        took[PLAIN].append(_timed(_plain, folder / "plain", number, rows))
        took[OURS].append(_timed(_ours, tables, rows, outbox))
        took[APPEND].append(_timed(_append, tables, rows))
    console.print(f"\n{commits} commits of {count:,} rows, {len(rows.schema)} columns; ms, median")
    for name, values in took.items():
        cells = []
        for moment, part in MOMENTS.items():
            own, plain = median(values[part]), median(took[PLAIN][part])
            cells.append(f"{moment}: {own * 1e3:6.1f} ({own / plain:4.1f}x)")
        rate = commits * count / sum(values)
        console.print(f"{name:32} {'   '.join(cells)}   {rate:9,.0f} rows/s")
    ratio = sum(took[APPEND]) / sum(took[OURS])
    console.print(f"rows/s into the table, ours through append: {ratio:.2f}")
    _compacted(tables)


def _compacted(tables: Tables) -> None:
    before, started = _read(tables), time.perf_counter()
    done = Upkeep(tables, {}).run(NAME)
    seconds, after = time.perf_counter() - started, _read(tables)
    console.print(
        f"maintenance: {done.files_before} files of {done.bytes_before / 1e6:.1f} MB -> "
        f"{done.files} of {done.bytes / 1e6:.1f} MB in {seconds:.1f} s\n"
        f"reading two columns with PyIceberg: {before * 1e3:.0f} -> {after * 1e3:.0f} ms, "
        f"{before / after:.1f} times as fast"
    )


def batch(number: int, count: int) -> pa.Table:
    """Rows of one commit, an envelope each."""
    random = np.random.default_rng(number)
    first = (START + number * STEP - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    ids = [f"service-7f9c-{number * count + i}" for i in range(count)]
    features = {
        f"feature_{i}": pa.array(random.standard_normal(count).round(3)) for i in range(COLUMNS)
    }
    return pa.table(
        {
            "envelope_id": ids,
            "row_id": [f"{id_}:0" for id_ in ids],
            "event_time": pa.array(np.arange(first, first + count)).view(TIME),
            "country": pa.array(np.array(["no", "se", "dk", "fi"])[random.integers(0, 4, count)]),
            **features,
        }
    )


def _tables(folder: Path, schema: pa.Schema) -> Tables:
    tables = Tables(folder)
    tables.prepare([])
    tables._prepare(NAME, schema)
    tables.catalog.create_table(APPENDED, schema)  # without partitions, which cost it more
    return tables


def _ours(tables: Tables, rows: pa.Table, outbox: Outbox) -> None:
    tables.commit(NAME, write_files(tables.load(NAME), rows).files, outbox)


def _plain(folder: Path, number: int, rows: pa.Table) -> None:
    folder.mkdir(exist_ok=True)
    temporary = folder / f".{number}.tmp"
    with open(temporary, "wb") as stream:
        pq.write_table(rows, stream, compression="zstd")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(folder / f"{number}.parquet")


def _append(tables: Tables, rows: pa.Table) -> None:
    tables.load(APPENDED).append(rows)


def _timed(run: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - started


def _read(tables: Tables) -> float:
    """Seconds to load two columns of all rows."""
    columns = ("country", "feature_0")
    return median(
        _timed(lambda: tables.load(NAME).scan(selected_fields=columns).to_arrow()) for _ in range(5)
    )


if __name__ == "__main__":
    main()
