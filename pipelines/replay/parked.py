"""Parked models: how many envelopes wait, since when, and what one looks like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.decode import decode
from pipelines.replay.letters import Stored
from schemas import RecordError
from weighbridge import Envelope
from weighbridge.archive import Message

MAX_DEPTH = 4
MAX_KEYS = 20
_MAX_KEY = 40
_MAX_BYTES = 10 << 20


@dataclass
class ParkedModel:
    """What is parked of one model id. Times are publish times, microseconds since 1970, UTC."""

    model_id: str
    envelopes: int
    first: int
    last: int
    shape: list[str]
    """Lines `response.scores[]: number` of the first envelope that can be read."""


def parked_models(messages: Iterable[Stored]) -> list[ParkedModel]:
    """The models of parked messages, in the order of their ids."""
    found: dict[str, ParkedModel] = {}
    for stored in messages:
        message = stored.message
        model_id, published = message.attributes.get("model_id", ""), message.publish_time or 0
        entry = found.get(model_id)
        if entry is None:
            entry = found[model_id] = ParkedModel(model_id, 0, published, published, [])
        entry.envelopes += _count(message)
        entry.first, entry.last = min(entry.first, published), max(entry.last, published)
        if not entry.shape:
            entry.shape = _shape_of(message)
    return [found[model_id] for model_id in sorted(found)]


def printable(text: str, most: int) -> str:
    """The text as a terminal may show it: cut, and with escapes for what is no plain character."""
    shown = text[:most].encode("unicode_escape").decode()
    return shown if len(text) <= most else f"{shown}…"


def _count(message: Message) -> int:
    text = message.attributes.get("envelope_count", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1


def _shape_of(message: Message) -> list[str]:
    try:
        decoded = decode(message, _MAX_BYTES)
        if isinstance(decoded, dict):
            return []
        envelope = next(decoded.envelopes())
    except (RecordError, StopIteration):
        return []
    lines: list[str] = []
    parts = ("actual",) if decoded.kind == "actual" else ("request", "response", "context")
    for part in parts:
        lines += _part(envelope, part)
    return lines


def _part(envelope: Envelope, part: str) -> Iterator[str]:
    try:
        value = getattr(envelope, part)
    except RecordError:
        yield f"{part}: not JSON"
        return
    if part != "context" or value:
        yield from shape(value, part)


def shape(value: Any, path: str, depth: int = MAX_DEPTH) -> Iterator[str]:
    """Keys and types of a JSON value, one line each, and never a value.

    Args:
        value: what was parsed; of a list, the first item stands for all.
        path: where it is, such as `request.houses[]`.
        depth: how far to go; deeper objects are `object`.
    """
    if isinstance(value, list):
        if value and depth:
            yield from shape(value[0], f"{path}[]", depth - 1)
        else:
            yield f"{path}[]: {'anything' if value else 'empty'}"
    elif isinstance(value, dict) and depth:
        for key in list(value)[:MAX_KEYS]:
            yield from shape(value[key], f"{path}.{printable(key, _MAX_KEY)}", depth - 1)
        if len(value) > MAX_KEYS:
            yield f"{path}: {len(value) - MAX_KEYS} more keys"
        if not value:
            yield f"{path}: empty object"
    else:
        yield f"{path}: {_kind(value)}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "string" if isinstance(value, str) else "object"
