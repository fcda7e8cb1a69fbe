"""Traffic to measure with: archive files as our own publisher's messages lie in them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bodies import request_and_response
from benchmarks.models.clicks import model_id
from weighbridge.archive import Message, write_archive
from weighbridge.wire import Batch, pack

START = 1_768_456_800_000_000
"""2026-01-15 06:00 UTC in microseconds: all event times lie in the six hours behind it."""
SPAN = 6 * 3_600_000_000
_PUBLISHERS = 4
"""Of each model: what they send in the same minutes overlaps."""


@dataclass(frozen=True)
class Traffic:
    """What to generate; the same values give the same bytes.

    Attributes:
        name: of its folder.
        envelopes: how many, before they are copied.
        rows: in each envelope.
        models: that the messages are of, in turn.
        fewest: envelopes of a message.
        most: envelopes of a message.
        messages: in each file.
        bad: share of envelopes that the row class refuses.
        copies: how often everything is there, each time with other envelope ids.
        first_copy: number of the first; traffic of other numbers shares no envelope with it.
        seed: another one gives other values; ids stay.
        padding: bytes of text in each request that no extractor looks at.
    """

    name: str
    envelopes: int
    rows: int = 1
    models: int = 10
    fewest: int = 300
    most: int = 500
    messages: int = 40
    bad: float = 0.0
    copies: int = 1
    first_copy: int = 0
    seed: int = 7
    padding: int = 0


@dataclass(frozen=True)
class Written:
    """Traffic as it lies on disk. Sizes in bytes: of JSON bodies, and of Avro before zstd."""

    folder: Path
    envelopes: int
    good_rows: int
    bodies: int
    avro: int

    @property
    def files(self) -> str:
        """What `--input_files` takes."""
        return f"{self.folder}/*.avro"

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return sorted(self.folder.glob("*.avro"))


def write_traffic(root: Path, traffic: Traffic) -> Written:
    """Write the files below a folder, unless they are there from an earlier run."""
    folder = root / traffic.name
    summary = folder / "traffic.json"
    if summary.exists():
        found = json.loads(summary.read_text())
        if found["traffic"] == asdict(traffic):
            return Written(folder, **found["written"])
    for old in folder.glob("*"):
        old.unlink()
    writer = _Writer(folder, traffic.messages)
    envelopes = good = bodies = avro = 0
    for batch, bad in batches(traffic):
        for copy in range(traffic.first_copy, traffic.first_copy + traffic.copies):
            attributes, data = pack(_copied(batch, copy))
            published = batch["event_time"][-1] + 1_000_000
            writer.add(Message(data, attributes, f"{writer.messages:012}", published))
        count = len(batch["event_time"])
        envelopes += count * traffic.copies
        good += (count - bad) * traffic.rows * traffic.copies
        bodies += sum(map(len, batch["request"] + batch["response"])) * traffic.copies
        avro += len(pack(batch, compress=False)[1]) * traffic.copies
    writer.close()
    written = {"envelopes": envelopes, "good_rows": good, "bodies": bodies, "avro": avro}
    summary.write_text(json.dumps({"traffic": asdict(traffic), "written": written}))
    return Written(folder, **written)


class _Writer:
    """Files of so many messages each, named in their order."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._files = 0
        self._held: list[Message] = []
        self.messages = 0

    def add(self, message: Message) -> None:
        self.messages += 1
        self._held.append(message)
        if len(self._held) == self._size:
            self.close()

    def close(self) -> None:
        if self._held:
            write_archive(self._folder / f"{self._files:06}.avro", self._held)
            self._files += 1
            self._held = []


def batches(traffic: Traffic) -> Iterator[tuple[Batch, int]]:
    """Batches in order of their times, and how many bad envelopes each holds."""
    rng = random.Random(traffic.seed)
    sequences: dict[str, int] = {}
    messages = max(1, traffic.envelopes // (traffic.most * traffic.models))
    span = min(SPAN // 2, SPAN // messages * _PUBLISHERS)
    done = number = 0
    while done < traffic.envelopes:
        count = min(rng.randint(traffic.fewest, traffic.most), traffic.envelopes - done)
        model = model_id(number % traffic.models)
        publisher = f"{model}-{rng.randrange(_PUBLISHERS):04x}-7f9c6d"
        first = sequences.get(publisher, 0)
        sequences[publisher] = first + count
        bad = [rng.random() < traffic.bad for _ in range(count)]
        pairs = [
            request_and_response(rng, model, traffic.rows, wrong, traffic.padding) for wrong in bad
        ]
        begin = START + done * (SPAN - span) // traffic.envelopes
        times = sorted(begin + rng.randrange(span) for _ in range(count))
        yield _batch(rng, publisher, model, first, times, pairs), sum(bad)
        done += count
        number += 1


def _batch(
    rng: random.Random,
    publisher: str,
    model: str,
    first: int,
    times: list[int],
    pairs: list[tuple[bytes, bytes]],
) -> Batch:
    count = len(times)
    fixed: dict[str, Any] = {}
    for part in ("request", "response", "context"):
        fixed |= {f"{part}_type": "application/json", f"{part}_encoding": ""}
    return {
        **fixed,
        "batch_id": f"{publisher}-{first}",
        "publisher_id": publisher,
        "model_id": model,
        "model_version": "2025-10-01.3",
        "kind": "prediction",
        "first_sequence": first,
        "sequence_offset": list(range(count)),
        "event_time": times,
        "status": [200] * count,
        "latency_us": [rng.randrange(20_000) for _ in range(count)],
        "headers": [b'{"x-market":"de","user-agent":"feed/1.4"}'] * count,
        "attributes": [b"{}"] * count,
        "request": [request for request, _ in pairs],
        "response": [response for _, response in pairs],
        "context": [None] * count,
        "cut": [0] * count,
    }


def _copied(batch: Batch, copy: int) -> Batch:
    if copy == 0:
        return batch
    publisher = f"{batch['publisher_id']}-{copy}"
    return {
        **batch,
        "publisher_id": publisher,
        "batch_id": f"{publisher}-{batch['first_sequence']}",
    }
