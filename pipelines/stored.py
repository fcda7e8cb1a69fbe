"""Dead letters and parked messages as rows of the platform's tables, without their payloads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from extractors._registry import MODEL_ID
from pipelines import ledger
from pipelines.decode import MAX_TIME, MIN_TIME, decode
from pipelines.identity import identity
from schemas import RecordError
from weighbridge.archive import Message
from weighbridge.plain import parse_rfc3339
from weighbridge.wire import BATCH_CONTENT, HEARTBEAT_CONTENT

FAILURES, PARKED = "failures", "parked"
"""Folders of a home, and short names of the tables that say what is in them."""
_NO_LIMIT = 1 << 62
_COUNT = re.compile("[0-9]{1,6}")
Describe: TypeAlias = Callable[[Message, str, int], Iterator[tuple[Any, ...]]]
"""Rows of a message that stands in a file at a position."""


def failure_rows(letter: Message, file: str, position: int) -> Iterator[tuple[Any, ...]]:
    """The row of `weighbridge.failures` for a dead letter; the same one whenever it is made."""
    found = letter.attributes
    key = identity(letter).hex()
    published = letter.publish_time or 0
    yield (
        key,
        f"{key}:0",
        event_time(letter),
        published,
        failed_id(letter),
        model_id_of(letter) or None,
        found.get("failure_stage"),
        found.get("failure_error"),
        found.get("failure_message"),
        found.get("failure_fingerprint"),
        found.get("failure_extractor_version"),
        *_contents(letter),
        found.get("failure_first"),
        file,
        position,
    )


def _contents(letter: Message) -> tuple[str | None, int]:
    """Whose message could not be taken apart, and how many envelopes it says that it holds."""
    found = letter.attributes
    if found.get("content") == HEARTBEAT_CONTENT:
        return None, 0
    if "envelope_id" in found or found.get("content") != BATCH_CONTENT:
        return None, 1
    count = found.get("envelope_count", "")
    return found.get("publisher_id"), int(count) if _COUNT.fullmatch(count) else 1


def parked_rows(message: Message, file: str, position: int) -> Iterator[tuple[Any, ...]]:
    """The rows of `weighbridge.parked` for a parked message: one for each of its envelopes."""
    try:
        decoded = decode(message, _NO_LIMIT)
    except RecordError:
        return
    if isinstance(decoded, dict):
        return
    for id_, time in zip(decoded.ids, decoded.times):
        published = message.publish_time
        moment = time if MIN_TIME <= time <= MAX_TIME else published or 0
        yield (
            id_,
            f"{id_}:0",
            moment,
            moment if published is None else published,
            decoded.model_id,
            decoded.kind,
            decoded.model_version,
            file,
            position,
        )


DESCRIBE: Mapping[str, Describe] = {FAILURES: failure_rows, PARKED: parked_rows}
TABLES = {FAILURES: ledger.FAILURES, PARKED: ledger.PARKED}


def model_id_of(letter: Message) -> str:
    """The model id that a message names, "" if that is none: it may then be of any length."""
    model_id = letter.attributes.get("model_id", "")
    return model_id if MODEL_ID.fullmatch(model_id) else ""


def failed_id(letter: Message) -> str:
    """Id of the envelope that failed, or of the message where it could not be taken apart."""
    return letter.attributes.get("envelope_id") or letter.message_id or identity(letter).hex()


def event_time(letter: Message) -> int:
    """When the envelope happened, else when it was published. Microseconds since 1970, UTC."""
    try:
        return parse_rfc3339(letter.attributes.get("event_time", ""))
    except ValueError:
        return letter.publish_time or 0
