"""Bytes of an envelope on each stretch of its way."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.capture.figures import Table
from benchmarks.measure import measured
from benchmarks.push import SPACE, Bench, receiver
from benchmarks.scaling.curves import messages_of
from benchmarks.traffic import Traffic, batches
from pipelines.receiver import ArizeReceiver
from weighbridge.archive import write_archive

PACKED = (1, 10, 100, 500)


@dataclass(frozen=True)
class Hops:
    """The table, and bytes of an envelope in the largest of these messages."""

    table: Table
    message: float


def hops(envelopes: int, folder: Path) -> Hops:
    """Bytes of an envelope of one row, for packs of several sizes.

    Args:
        envelopes: how many are measured.
        folder: where archive files may be written.
    """
    message = 0.0
    table = Table(
        "Bytes of an envelope of one row",
        ["envelopes of a message", "JSON bodies", "message", "of JSON", "archive file"],
    )
    for packed in PACKED:
        traffic = Traffic("hops", envelopes, models=1, fewest=packed, most=packed)
        bodies = sum(
            len(body)
            for batch, _ in batches(traffic)
            for body in (*batch["request"], *batch["response"])
        )
        messages = messages_of(traffic)
        sent = sum(
            len(one.data) + sum(map(len, (*one.attributes, *one.attributes.values())))
            for one in messages
        )
        path = folder / f"{packed}.avro"
        write_archive(path, messages)
        message = sent / envelopes
        cells = [bodies / envelopes, message]
        table.rows.append(
            [
                f"{packed}",
                *(f"{cell:,.0f}" for cell in cells),
                f"{sent / bodies:.2f}",
                f"{path.stat().st_size / envelopes:,.0f}",
            ]
        )
    return Hops(table, message)


def push_micros(rows: int) -> float:
    """CPU us of a row that is pushed: read from its file, sent, acknowledged."""
    os.environ |= {"ARIZE_API_KEY": "key", "ARIZE_SPACE_ID": SPACE}
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as folder:
        bench = Bench(Path(folder), 10, rows // 10)
        bench.queue()
        with receiver() as url:
            bench.push(url)  # to warm up
            bench.queue()
            return measured(lambda: bench.push(url)).cpu / bench.rows * 1e6


class _Weighing(ArizeReceiver):
    """A receiver that adds up the bytes that it is sent."""

    received = 0

    def _take(self, headers: Any, body: bytes) -> None:
        self.received += len(body)
        super()._take(headers, body)


def uploaded_bytes(rows: int) -> float:
    """Bytes of a row of fifteen columns in an upload to Arize."""
    os.environ |= {"ARIZE_API_KEY": "key", "ARIZE_SPACE_ID": SPACE}
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as folder:
        bench = Bench(Path(folder), 10, rows // 10)
        bench.queue()
        with _Weighing() as weighing:
            bench.push(weighing.url)
        return weighing.received / bench.rows
