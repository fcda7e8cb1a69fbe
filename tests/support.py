"""What several tests need: messages, homes, and what lies in them."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa

from pipelines.main import run
from pipelines.report import Report
from pipelines.tables import Tables
from weighbridge.archive import Message, read_archive, write_archive
from weighbridge.plain import format_rfc3339
from weighbridge.wire import ARRAYS, HEARTBEAT_CONTENT, pack

PACKAGES = Path(__file__).parent / "packages"
if str(PACKAGES) not in sys.path:
    sys.path.insert(0, str(PACKAGES))

HEARTBEAT = fastavro.parse_schema(
    json.loads(files("weighbridge").joinpath("heartbeat.avsc").read_text())
)
NOW = datetime.now(UTC).replace(microsecond=0)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def plain(
    model_id: str | None,
    body: Any,
    *,
    message_id: str,
    at: datetime | None = NOW,
    **attributes: str,
) -> Message:
    """A plain JSON message; `body` is a JSON value, or bytes as they are."""
    named = {} if model_id is None else {"model_id": model_id}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message(data, {**named, **attributes}, message_id, at and micros(at))


def scored(*scores: Any, prefix: str = "c", **more: Any) -> dict[str, Any]:
    """The body of a prediction of the model `scores`."""
    cases = [{"id": f"{prefix}-{i}", "amount": 1.5 * i} for i in range(len(scores))]
    return {"request": {"cases": cases}, "response": {"scores": list(scores)}, **more}


def packed(
    model_id: str,
    bodies: list[dict[str, Any]],
    *,
    first: int = 0,
    at: datetime = NOW,
    **fields: Any,
) -> Message:
    """A packed message of predictions; `fields` replace fields of the batch."""
    count = len(bodies)
    batch: dict[str, Any] = {
        "batch_id": f"pub-{first}",
        "publisher_id": "pub",
        "model_id": model_id,
        "model_version": "7",
        "kind": "prediction",
        "first_sequence": first,
        **{f"{part}_type": "application/json" for part in ("request", "response", "context")},
        **{f"{part}_encoding": "" for part in ("request", "response", "context")},
        "sequence_offset": list(range(count)),
        "event_time": [micros(at) + i for i in range(count)],
        "status": [200] * count,
        "latency_us": [None] * count,
        "headers": [b"{}"] * count,
        "attributes": [b"{}"] * count,
        "request": [_json(body.get("request")) for body in bodies],
        "response": [_json(body.get("response")) for body in bodies],
        "context": [_json(body["context"]) if "context" in body else None for body in bodies],
        "cut": [0] * count,
        **fields,
    }
    assert {len(batch[name]) for name in ARRAYS} == {count} or fields
    attributes, data = pack(batch)
    return Message(data, attributes, f"m-{model_id}-{first}", micros(at))


def heartbeat(
    publisher_id: str, models: list[dict[str, Any]], *, sequence: int, time: int | None = None
) -> Message:
    """A heartbeat message."""
    out = io.BytesIO()
    counts = {"publisher_id": publisher_id, "sequence": sequence, "models": models}
    when = micros(NOW) if time is None else time
    fastavro.schemaless_writer(out, HEARTBEAT, {**counts, "time": when})
    attributes = {"content": HEARTBEAT_CONTENT, "encoding": "avro"}
    return Message(out.getvalue(), attributes, f"h-{publisher_id}", micros(NOW))


def _json(value: Any) -> bytes | None:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


class Home:
    """A home folder under test, and its input."""

    def __init__(self, folder: Path, package: str = "odd") -> None:
        self.folder = folder / "home"
        self.input = folder / "in"
        self.package = package

    def put(self, *messages: Message, name: str = "a") -> Path:
        path = self.input / f"{name}.avro"
        write_archive(path, messages)
        return path

    def arguments(self, *more: str, files: str | None = None) -> list[str]:
        found = files or str(self.input / "*.avro")
        own = ["--input_files", found, "--home", str(self.folder)]
        return [*own, "--extractors_package", self.package, *more]

    def run(self, *more: str, files: str | None = None) -> Report:
        return run(self.arguments(*(more or ("--no_arize",)), files=files))

    def rows(self, table: str, namespace: str = "models") -> list[dict[str, Any]]:
        rows: pa.Table = Tables(self.folder).load(f"{namespace}.{table}").scan().to_arrow()
        return sorted(rows.to_pylist(), key=lambda row: row["row_id"])

    def row_ids(self, table: str) -> list[str]:
        return [row["row_id"] for row in self.rows(table)]

    def deliveries(self) -> list[dict[str, Any]]:
        rows: pa.Table = Tables(self.folder).load("weighbridge.deliveries").scan().to_arrow()
        return rows.to_pylist()

    def stored(self, folder: str) -> list[Message]:
        return list(stored(self.folder / folder))


def stored(folder: Path) -> Iterator[Message]:
    for path in sorted(folder.glob("**/*.avro")):
        with open(path, "rb") as stream:
            yield from read_archive(stream)


def write_package(folder: Path, name: str, **modules: str) -> None:
    """A package of extractors below a folder, with the text of each module."""
    (folder / name).mkdir()
    for module, text in {"__init__": "", **modules}.items():
        (folder / name / f"{module}.py").write_text(text)


def untyped(annotation: str, name: str = "number") -> str:
    """A module with one model and one column of that type."""
    return (
        "from extractors import Row, extractor\n\n\n"
        f"class {name.title()}(Row):\n    {name}: {annotation}\n\n\n"
        f'@extractor("{name}", row={name.title()}, model_type="untyped")\n'
        "def extract(envelope):\n    yield envelope.request\n"
    )


def at(moment: datetime) -> str:
    return format_rfc3339(micros(moment))


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
