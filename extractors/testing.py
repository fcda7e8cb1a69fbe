"""Try an extractor without a pipeline: envelopes, rows with all checks, golden cases."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, overload

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from extractors._calls import Extracted, ExtractorCalls
from extractors._registry import Extractor, Extractors, extractor_of
from schemas import ConfigurationError, RecordError, Row
from schemas.buffer import RowBuffer
from schemas.guard import TimeLimit
from weighbridge import Envelope, Origin
from weighbridge.plain import parse_rfc3339
from weighbridge.wire import Kind

R = TypeVar("R", bound=Row)
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# They change with the code and with the clock, not with what the extractor does.
_PLACE = re.compile(r" at \S+\.py:\d+ \(.*\)$")
_NOT_GOLDEN = ("extractor_version", "ingest_time")


class _Arguments(BaseModel):
    """What `envelope.json` may say: the arguments of `envelope` but those that its place says."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    request: Any = None
    response: Any = None
    actual: Any = None
    context: Any = None
    model_version: str = ""
    status: int | None = None
    latency_us: int | None = None
    event_time: datetime = NOON
    headers: dict[str, str] = {}
    attributes: dict[str, str] = {}


def envelope(
    *,
    request: Any = None,
    response: Any = None,
    actual: Any = None,
    context: Any = None,
    model_id: str = "test",
    envelope_id: str = "e-1",
    model_version: str = "1",
    status: int | None = 200,
    latency_us: int | None = None,
    event_time: datetime = NOON,
    headers: Mapping[str, str] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Envelope:
    """An envelope as the pipeline would give it; bodies are JSON values, or bytes as they are."""
    kind: Kind = "prediction" if actual is None else "actual"
    micros = (event_time - _EPOCH) // timedelta(microseconds=1)
    return Envelope(
        Origin(model_id, kind, model_version, micros),
        envelope_id,
        micros,
        _body(request if actual is None else actual),
        None if kind == "actual" else _body(response),
        None if context is None else _body(context),
        status,
        latency_us,
        {name.lower(): value for name, value in (headers or {}).items()},
        dict(attributes or {}),
    )


@overload
def rows_of(extract: Callable[[Envelope], Iterable[R]], envelope: Envelope) -> list[R]: ...


@overload
def rows_of(extract: Callable[[Envelope], Iterable[Any]], envelope: Envelope) -> list[Any]: ...


def rows_of(extract: Callable[[Envelope], Iterable[Any]], envelope: Envelope) -> list[Any]:
    """The rows that the pipeline would write for this envelope; dicts as rows, too.

    Raises:
        RecordError: the pipeline would make the envelope a dead letter; its `stage` says where.
        ConfigurationError: the function is not registered, or not as it should be.
    """
    entry = _entry(extract, envelope)
    found, _ = _run(entry, envelope)
    checked = [entry.row.model_construct(**row) for row in found.checked.rows]
    return checked or [entry.row.model_validate(row) for row in found.unchecked.rows]


@dataclass(frozen=True)
class GoldenCase:
    """A folder with `envelope.json`, and `rows.json` with the rows that it must give."""

    model_id: str
    folder: Path

    @property
    def name(self) -> str:
        """Model and case."""
        return f"{self.model_id}/{self.folder.name}"

    def expected(self) -> Any:
        """What `rows.json` says; None if there is none yet."""
        path = self.folder / "rows.json"
        return _read(path) if path.exists() else None

    def given(self, extractors: Extractors) -> Any:
        """What today's extractor gives: a list of rows, or {"failure": {stage, message}}.

        Raises:
            ConfigurationError: no extractor is registered for the envelope.
        """
        captured = self.envelope()
        entry = extractors.get((self.model_id, captured.kind))
        if entry is None:
            raise ConfigurationError(f"{self.name}: no extractor for {captured.kind}s")
        try:
            _, batch = _run(entry, captured)
        except RecordError as error:
            message = _PLACE.sub("", str(error))
            return {"failure": {"stage": error.stage, "message": message}}
        rows = [] if batch is None else batch.drop_columns(list(_NOT_GOLDEN)).to_pylist()
        return json.loads(json.dumps(rows, default=_json))

    def differences(self, extractors: Extractors) -> list[str]:
        """Where today's rows are not those of `rows.json`, without values; empty if they are.

        Raises:
            ConfigurationError: as `expected` and `given` do.
        """
        expected, given = self.expected(), self.given(extractors)
        if expected is None:
            return ["there is no rows.json yet"]
        if isinstance(given, dict) and given != expected:
            return ["fails at stage {stage}: {message}".format(**given["failure"])]
        if not isinstance(given, list) or not isinstance(expected, list):
            return [] if given == expected else ["rows.json is no list, and rows are given"]
        found = [
            f"row {number}: {', '.join(columns)}"
            for number, (old, new) in enumerate(zip(expected, given))
            if (columns := _differing(old, new))
        ]
        if len(expected) != len(given):
            found.append(f"rows: {len(given)}, and not {len(expected)}")
        return found

    def envelope(self) -> Envelope:
        """The captured envelope.

        Raises:
            ConfigurationError: `envelope.json` does not hold arguments of `envelope`.
        """
        path = self.folder / "envelope.json"
        stored = _read(path)
        if not isinstance(stored, dict):
            raise ConfigurationError(f"{path}: not a JSON object")
        if "event_time" in stored:
            try:
                micros = parse_rfc3339(stored["event_time"])
            except (TypeError, ValueError):
                raise ConfigurationError(
                    f'{path}: event_time: give text with an offset, "2026-01-15T09:30:00Z"'
                ) from None
            stored["event_time"] = _EPOCH + timedelta(microseconds=micros)
        try:
            arguments = _Arguments.model_validate(stored)
        except ValidationError as error:
            wrong = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, wrong["loc"]))
            if wrong["type"] == "extra_forbidden":
                keys = ", ".join(_Arguments.model_fields)
                raise ConfigurationError(f"{path}: {place} is none of {keys}") from None
            raise ConfigurationError(f"{path}: {place}: {wrong['msg']}") from None
        given = arguments.model_dump(exclude_unset=True)
        return envelope(model_id=self.model_id, envelope_id=self.folder.name, **given)

    def write(self, extractors: Extractors) -> None:
        """Replace `rows.json` by what today's extractor gives."""
        text = json.dumps(self.given(extractors), indent=2, ensure_ascii=False, sort_keys=True)
        (self.folder / "rows.json").write_text(text + "\n")


def golden_cases(folder: Path) -> Iterator[GoldenCase]:
    """The cases below `folder/<model>/<case>/`, in order of their names."""
    for path in sorted(folder.glob("*/*/envelope.json")):
        yield GoldenCase(path.parent.parent.name, path.parent)


def _differing(old: Any, new: dict[str, Any]) -> list[str]:
    """Columns whose values differ, or that only one of two rows has."""
    if not isinstance(old, dict):
        return ["no JSON object in rows.json"]
    missing = object()
    names = {**new, **old}
    return [name for name in names if old.get(name, missing) != new.get(name, missing)]


def _entry(function: Callable[..., Any], envelope: Envelope) -> Extractor:
    entries = extractor_of(function)
    if not entries:
        raise ConfigurationError(f"{function.__qualname__} is not decorated with @extractor")
    named = [entry for entry in entries if entry.model_id == envelope.model_id]
    return (named or entries)[0]


def _run(entry: Extractor, envelope: Envelope) -> tuple[Extracted, pa.RecordBatch | None]:
    """The rows of an envelope as extracted, and as they would be written."""
    if entry.statuses is not None and envelope.status not in (None, *entry.statuses):
        return Extracted(), None
    limit = TimeLimit()
    try:
        found = ExtractorCalls(entry, limit).extract([envelope])
    finally:
        limit.close()
    for _, error in found.failed:
        raise error
    checked = bool(found.checked.rows)
    buffer: RowBuffer[None] = RowBuffer(entry.shape(), checked)
    rows = found.checked.rows or found.unchecked.rows
    micros = envelope.event_micros
    buffer.add(rows, envelope.envelope_id, micros, micros, envelope.model_version, None)
    flushed = buffer.flush()
    for _, refusal in flushed.refused:
        raise refusal
    return found, flushed.batch


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _body(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def _json(value: object) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
