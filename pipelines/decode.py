"""Messages as envelopes, and envelopes back as messages that can be run again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Protocol, TypeAlias

from pipelines.identity import identity
from schemas import DecodeError, Failure, RecordError, RouteError, RowValidationError
from weighbridge import Envelope, Origin
from weighbridge.archive import Message
from weighbridge.plain import format_rfc3339, plain_id, read_plain
from weighbridge.wire import (
    ARRAYS,
    BATCH_CONTENT,
    HEARTBEAT_CONTENT,
    Batch,
    Kind,
    pack,
    unpack,
    unpack_heartbeat,
)

MIN_TIME, MAX_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999
"""Years 1 and 9999, microseconds since 1970: what Python, Arrow and Iceberg can all hold."""
RESERVED = ("failure_", "parked_")
Heartbeat: TypeAlias = dict[str, Any]
"""What heartbeat.avsc describes."""


class Decoded(Protocol):
    """The envelopes of one message, all of one model, kind and version.

    What all have is there by column, too: a look at each of them costs more than at the whole.

    Attributes:
        ids: of the envelopes.
        times: their event times, microseconds since 1970.
        statuses: their HTTP statuses.
        bytes: of all their payloads, at most.
        suspicious: whether there may be a `refusal`.
    """

    message: Message
    model_id: str
    kind: Kind
    model_version: str
    ids: list[str]
    times: list[int]
    statuses: list[int | None]
    bytes: int
    suspicious: bool

    def envelopes(self) -> Iterator[Envelope]:
        """The envelopes, in the order of the columns."""

    def refusal(self, index: int) -> DecodeError | None:
        """Why this envelope must not be given to an extractor, if so."""

    def dead_letter(self, index: int, failure: Failure) -> Message:
        """The envelope as a message of its own, its payload bytes unchanged."""

    def parked(self, positions: Sequence[int], cause: str) -> Message:
        """The envelopes of these positions as one message, which says why it is parked."""


def decode(message: Message, max_envelope_bytes: int) -> Decoded | Heartbeat:
    """The envelopes of a message, or a heartbeat.

    Raises:
        DecodeError: the message is not what it claims to be.
        RouteError: it names no model.
    """
    content = message.attributes.get("content")
    if content == HEARTBEAT_CONTENT:
        heartbeat = unpack_heartbeat(message.attributes, message.data)
        if not MIN_TIME <= heartbeat["time"] <= MAX_TIME:
            raise DecodeError("time of the heartbeat is beyond the years 1 to 9999")
        return heartbeat
    if content == BATCH_CONTENT:
        batch = unpack(message.attributes, message.data)
        _named(message)
        return _Packed(message, batch, max_envelope_bytes)
    if content is not None:
        raise DecodeError("attribute content names no format that this version knows")
    model_id = message.attributes.get("model_id", "")
    envelope = read_plain(message, model_id, max_envelope_bytes)
    _named(message)
    return _Plain(message, envelope, max_envelope_bytes)


def refusals(decoded: Decoded, max_future: int) -> dict[int, RecordError]:
    """Envelopes that no extractor may see, by position.

    Args:
        decoded: the envelopes of a message.
        max_future: microseconds that an event may lie ahead of its publish time.
    """
    published, times = decoded.message.publish_time, decoded.times
    latest = MAX_TIME if published is None else published + max_future
    if not decoded.suspicious and max(times, default=0) <= latest:
        return {}
    found: dict[int, RecordError] = {}
    for position, time in enumerate(times):
        refusal = decoded.refusal(position)
        if refusal is not None:
            found[position] = refusal
        elif time > latest:
            cause = "event_time is further ahead than --max_future"
            found[position] = RowValidationError(cause)
    return found


def unwanted_statuses(statuses: list[int | None], taken: range | None) -> set[int | None]:
    """Of the statuses, those that an extractor does not take."""
    if taken is None:
        return set()
    return {status for status in set(statuses) if status is not None and status not in taken}


def whole_dead_letter(message: Message, failure: Failure) -> Message:
    """A message that cannot be taken apart, unchanged but for what is added to its attributes."""
    return _marked(message, _of_failure(message, failure))


def _marked(message: Message, marks: Mapping[str, str]) -> Message:
    added = dict(marks)
    if "content" not in message.attributes:
        added |= _resolved(message)
    return message._replace(attributes={**added, **_kept(message)})


def _kept(message: Message) -> dict[str, str]:
    return {k: v for k, v in message.attributes.items() if not k.startswith(RESERVED)}


def _of_failure(message: Message, failure: Failure) -> dict[str, str]:
    """What is added to a message that failed, perhaps again: then with the first dead letter."""
    added = dict(failure.attributes())
    earlier = message.attributes.get("failure_fingerprint")
    first = message.attributes.get("failure_first")
    if first is None and earlier not in (None, failure.fingerprint):
        first = identity(message).hex()
    return added if first is None else {**added, "failure_first": first}


def _named(message: Message) -> None:
    if not message.attributes.get("model_id"):
        raise RouteError("attribute model_id is missing")


def _resolved(message: Message) -> dict[str, str]:
    """Id and event time as they were derived, so that a replay derives no other ones."""
    resolved = {"envelope_id": plain_id(message)}
    if message.publish_time is not None:
        resolved["event_time"] = format_rfc3339(message.publish_time)
    return resolved


class _Plain:
    def __init__(self, message: Message, envelope: Envelope, limit: int) -> None:
        self.message = message
        self.model_id = envelope.model_id
        self.kind = envelope.kind
        self.model_version = envelope.model_version
        self.ids = [envelope.envelope_id]
        self.times = [envelope.event_micros]
        self.statuses = [envelope.status]
        self.bytes = envelope.size
        self.suspicious = self.bytes > limit
        self._envelope = envelope
        self._limit = limit

    def envelopes(self) -> Iterator[Envelope]:
        yield self._envelope

    def refusal(self, index: int) -> DecodeError | None:
        return _too_large(self._envelope.size, self._limit)

    def dead_letter(self, index: int, failure: Failure) -> Message:
        return whole_dead_letter(self.message, failure)

    def parked(self, positions: Sequence[int], cause: str) -> Message:
        return _marked(self.message, {"parked_cause": cause})


class _Packed:
    def __init__(self, message: Message, batch: Batch, limit: int) -> None:
        self.message = message
        self.model_id: str = batch["model_id"]
        self.kind: Kind = batch["kind"]
        self.model_version: str = batch["model_version"]
        prefix, first = f"{batch['publisher_id']}-", batch["first_sequence"]
        self.ids = [f"{prefix}{first + offset}" for offset in batch["sequence_offset"]]
        self.times: list[int] = batch["event_time"]
        self.statuses: list[int | None] = batch["status"]
        self._batch = batch
        self._limit = limit
        self._origin = Origin(
            self.model_id,
            self.kind,
            batch["model_version"],
            message.publish_time,
            batch["request_encoding"],
            batch["response_encoding"],
            batch["context_encoding"],
            limit,
        )
        # The largest of each kind: what is below the limit with these has none above it.
        sizes = sum(
            max(map(len, filter(None, batch[part])), default=0)
            for part in ("request", "response", "context")
        )
        times = self.times
        self.bytes = sizes * len(times)
        self.suspicious = (
            sizes > limit
            or any(batch["cut"])
            or bool(times and (min(times) < MIN_TIME or max(times) > MAX_TIME))
        )

    def envelopes(self) -> Iterator[Envelope]:
        batch = self._batch
        columns = ("request", "response", "context", "status", "latency_us", "headers")
        return map(
            Envelope,
            repeat(self._origin),
            self.ids,
            self.times,
            *(batch[name] for name in (*columns, "attributes")),
        )

    def refusal(self, index: int) -> DecodeError | None:
        if not self.suspicious:
            return None
        batch = self._batch
        if batch["cut"][index]:
            return DecodeError("a payload was cut at capture")
        if not MIN_TIME <= batch["event_time"][index] <= MAX_TIME:
            return DecodeError("event_time is beyond the years 1 to 9999")
        bodies = (batch[part][index] for part in ("request", "response", "context"))
        return _too_large(sum(len(body) for body in bodies if body is not None), self._limit)

    def dead_letter(self, index: int, failure: Failure) -> Message:
        message, batch = self.message, self._batch
        added = {"envelope_id": self.ids[index]}
        if MIN_TIME <= self.times[index] <= MAX_TIME:
            added["event_time"] = format_rfc3339(self.times[index])
        added |= failure.attributes()
        if len(self.ids) == 1 and "failure_stage" in message.attributes:
            # It is a dead letter already; made anew it would look like another one.
            again = {**_kept(message), **added, **_of_failure(message, failure)}
            return message._replace(attributes=again)
        first = batch["first_sequence"] + batch["sequence_offset"][index]
        name = f"{batch['batch_id']}.{batch['sequence_offset'][index]}"
        return self._part([index], name, added, first_sequence=first, sequence_offset=[0])

    def parked(self, positions: Sequence[int], cause: str) -> Message:
        if len(positions) == len(self.ids):
            return _marked(self.message, {"parked_cause": cause})
        offsets = self._batch["sequence_offset"]
        ends = f"{offsets[positions[0]]}-{offsets[positions[-1]]}"
        name = f"{self._batch['batch_id']}.{ends}"
        return self._part(positions, name, {"parked_cause": cause})

    def _part(
        self, positions: Sequence[int], batch_id: str, added: Mapping[str, str], **fields: Any
    ) -> Message:
        """A message of some of the envelopes, which a follower does not take for the whole one."""
        batch = self._batch
        arrays = {name: [batch[name][i] for i in positions] for name in ARRAYS}
        part = {**batch, **arrays, "batch_id": batch_id, **fields}
        attributes, data = pack(part, compress=False)
        return self.message._replace(data=data, attributes={**attributes, **added})


def _too_large(size: int, limit: int) -> DecodeError | None:
    return DecodeError(f"payloads have more than {limit} bytes") if size > limit else None
