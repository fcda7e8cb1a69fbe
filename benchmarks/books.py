"""`python -m benchmarks.books`: how long the ledger takes over many envelopes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pyarrow as pa

from pipelines.books.command import Asked, ask
from pipelines.ledger import HEARTBEATS, heartbeat_rows, record_batch
from pipelines.outbox import Outbox
from pipelines.place import Place
from pipelines.tables import Tables
from schemas.arrow import TIME

NAME, MODEL = "models.many", "many"
HOURS, HOUR = 24, 3_600_000_000
_IDS = ("envelope_id", "row_id", "model_id")


@click.command()
@click.option("--envelopes", default=1_000_000, show_default=True, type=click.IntRange(min=1000))
@click.option("--publishers", default=50, show_default=True, type=click.IntRange(min=1))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
def main(envelopes: int, publishers: int, rounds: int) -> None:
    """Fill a table with envelopes of a day, and weigh them."""
    with tempfile.TemporaryDirectory(prefix="weighbridge-books-") as folder:
        home = Path(folder)
        now = time.time_ns() // 1000
        _fill(home, envelopes, publishers, now)
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            asked = Asked(now - (HOURS + 1) * HOUR, now + 1, now + 1, 0)
            answer = ask(Place(home=home), asked)
            seconds.append(time.perf_counter() - began)
            assert answer.balances and len(answer.standings) == publishers
        median = sorted(seconds)[len(seconds) // 2]
        print(f"{envelopes:,} envelopes of {publishers} publishers: {median:.1f} s")


def _fill(home: Path, envelopes: int, publishers: int, now: int) -> None:
    tables = Tables(home)
    tables.prepare([])
    schema = pa.schema(
        [
            *(pa.field(name, pa.string()) for name in _IDS),
            pa.field("event_time", TIME),
            pa.field("ingest_time", TIME),
        ]
    )
    tables._prepare(NAME, schema)
    each = envelopes // publishers
    step = HOURS * HOUR // each
    for part in range(HOURS):  # a commit an hour, each of all publishers
        numbers = np.arange(each * part // HOURS, each * (part + 1) // HOURS)
        ids = [f"{p:016x}-{n}" for n in numbers for p in range(publishers)]
        times = np.repeat(now - HOURS * HOUR + numbers * step, publishers)
        moments = pa.array(times).view(TIME)
        rows = pa.table(
            [ids, [f"{id_}:0" for id_ in ids], [MODEL] * len(ids), moments, moments], schema=schema
        )
        _commit(tables, NAME, rows)
    counts = {"sampled_out": 0, "dropped": {}, "spooled": 0, "served": each, "published": each}
    said = [
        row
        for p in range(publishers)
        for row in heartbeat_rows(
            {
                "publisher_id": f"{p:016x}",
                "time": now,
                "sequence": each,
                "models": [{"model_id": MODEL, **counts}],
            },
            now,
            True,
        )
    ]
    _commit(tables, HEARTBEATS, pa.Table.from_batches([record_batch(HEARTBEATS, said)]))


def _commit(tables: Tables, name: str, rows: pa.Table) -> None:
    tables.commit(name, tables.write_files(name, rows).files, Outbox(None))


if __name__ == "__main__":
    main()
