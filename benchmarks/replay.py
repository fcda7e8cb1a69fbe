"""What it costs to pick one model of fifty out of an archive, beside decoding all of it.

Run with `python -m benchmarks.replay`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Sample, measured, ratios
from pipelines.decode import decode
from pipelines.read import read_messages
from pipelines.selection import EVERYTHING, Selection
from weighbridge.archive import Message, write_archive
from weighbridge.wire import pack

MODELS, MESSAGES, ENVELOPES = 50, 1_000, 100
ROUNDS = 5
_LIMIT = 10 << 20


def archive(path: Path) -> None:
    """Packed messages of fifty models in turn, with requests of 900 bytes."""
    request = b'{"values": [' + b"0.123456789, " * 68 + b"1]}"
    arrays = {
        "sequence_offset": list(range(ENVELOPES)),
        "event_time": [1_700_000_000_000_000 + i for i in range(ENVELOPES)],
        "status": [200] * ENVELOPES,
        "latency_us": [None] * ENVELOPES,
        "headers": [b"{}"] * ENVELOPES,
        "attributes": [b"{}"] * ENVELOPES,
        "request": [request] * ENVELOPES,
        "response": [b'{"score": 0.5}'] * ENVELOPES,
        "context": [None] * ENVELOPES,
        "cut": [0] * ENVELOPES,
    }
    parts = ("request", "response", "context")
    once = {f"{part}_type": "application/json" for part in parts}
    once |= {f"{part}_encoding": "" for part in parts}
    messages = []
    for number in range(MESSAGES):
        named = {"model_id": f"model-{number % MODELS}", "model_version": "1", "kind": "prediction"}
        batch = {"batch_id": f"p-{number}", "publisher_id": "p", "first_sequence": number * 1000}
        attributes, data = pack({**batch, **named, **once, **arrays}, compress=False)
        messages.append(Message(data, attributes, f"m{number}", 1_700_000_000_000_000))
    write_archive(path, messages)


def read(path: Path, selection: Selection) -> int:
    """Read and decode what is selected; how many envelopes there were."""
    count = 0
    for message in read_messages(str(path), selection):
        decoded = decode(message, _LIMIT)
        count += 0 if isinstance(decoded, dict) else sum(1 for _ in decoded.envelopes())
    return count


def main() -> None:
    """Measure both in turns, and print the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "many.avro")
        archive(path)
        one = Selection(model="model-7")
        assert read(path, EVERYTHING) == MODELS * read(path, one)
        runs: dict[str, Callable[[], object]] = {
            "all": lambda: read(path, EVERYTHING),
            "one": lambda: read(path, one),
        }
        found: dict[str, list[Sample]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                found[name].append(measured(run))
        cpu = {name: [sample.cpu for sample in samples] for name, samples in found.items()}
        ratio = ratios(cpu["one"], cpu["all"])
        print(
            f"one model of {MODELS}: {ratio.middle:.3f} of the CPU of decoding all "
            f"({ratio.low:.3f} to {ratio.high:.3f}; {path.stat().st_size / 1e6:.0f} MB)"
        )


if __name__ == "__main__":
    main()
