"""Messages and archive files as Hypothesis makes them up: valid ones, and what damage makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import zstandard
from hypothesis import strategies as st
from support import NOW, heartbeat, micros, packed, plain, scored

from pipelines.decode import MAX_TIME
from weighbridge.archive import Message, encode_archive
from weighbridge.wire import pack

LONGS = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
MODELS = st.sampled_from(["scores", "scores-objects", "numbers", "raises", "nothing", "unheard"])
MODEL_IDS = MODELS | st.text(max_size=70)
CASES = st.lists(st.fixed_dictionaries({"id": st.text(max_size=4), "amount": st.floats() | JSON}))
REQUESTS = JSON | st.fixed_dictionaries({"cases": CASES}) | st.fixed_dictionaries({"number": JSON})
RESPONSES = JSON | st.fixed_dictionaries({"scores": st.lists(st.floats(0, 1) | JSON, max_size=4)})
PAYLOADS = (REQUESTS | RESPONSES).map(lambda value: json.dumps(value).encode()) | st.binary(
    max_size=40
)
STATUSES = st.none() | st.sampled_from([200, 404, -1, 2**31 - 1])
TIMES = st.just(micros(NOW)) | LONGS
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        ["kind", "model_version", "envelope_id", "event_time", "status", "latency_us", "content"]
        + ["encoding", "batch_id", "failure_stage", "parked_cause", "header-x", "team"]
    )
    | st.text(max_size=8),
    st.sampled_from(["prediction", "actual", "200", "avro", "avro+zstd", "2026-01-01T00:00:00Z"])
    | st.text(max_size=12),
    max_size=3,
)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The data, or what is left of it."""
    if draw(st.booleans()):
        return data
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 40)))
    return data[:start] + draw(st.binary(max_size=20)) + data[end:]


@st.composite
def packs(draw: st.DrawFn) -> Message:
    """A packed message; one in two is damaged, before or after it was compressed."""
    count = draw(st.integers(0, 4))

    def column(items: st.SearchStrategy[Any]) -> list[Any]:
        length = count if draw(st.integers(0, 19)) else draw(st.integers(0, 4))
        return draw(st.lists(items, min_size=length, max_size=length))

    body = st.none() | PAYLOADS
    batch = {
        **{name: draw(st.text(max_size=6)) for name in ("batch_id", "publisher_id")},
        "model_id": draw(MODEL_IDS),
        "model_version": draw(st.text(max_size=4)),
        "kind": draw(st.sampled_from(["prediction", "prediction", "actual", "other"])),
        "first_sequence": draw(LONGS),
        **{f"{part}_type": "" for part in ("request", "response", "context")},
        **{
            f"{part}_encoding": draw(st.sampled_from(["", "", "gzip", "br,zstd", "no such"]))
            for part in ("request", "response", "context")
        },
        "sequence_offset": column(st.integers(-(2**31), 2**31 - 1)),
        "event_time": column(TIMES),
        "status": column(STATUSES),
        "latency_us": column(st.none() | LONGS),
        "headers": column(st.just(b"{}") | PAYLOADS),
        "attributes": column(st.just(b"{}") | PAYLOADS),
        "request": column(body),
        "response": column(body),
        "context": column(body),
        "cut": column(st.sampled_from([0, 0, 0, 1, 7])),
    }
    attributes, data = pack(batch, compress=False)
    data = draw(damaged(data))
    if draw(st.booleans()):
        data = draw(damaged(zstandard.ZstdCompressor(level=1).compress(data)))
        attributes["encoding"] = "avro+zstd"
    more = draw(st.just({}) | ATTRIBUTES)
    return Message(data, {**attributes, **more}, draw(st.text(max_size=4)), draw(PUBLISHED))


PUBLISHED = st.none() | st.just(micros(NOW)) | st.integers(1, MAX_TIME)


@st.composite
def plains(draw: st.DrawFn) -> Message:
    """A message of JSON, or of what should be."""
    shapes = {"request": REQUESTS, "response": RESPONSES}
    optional = {"context": JSON}
    body = draw(
        st.fixed_dictionaries(shapes, optional=optional)
        | st.fixed_dictionaries({"actual": REQUESTS})
        | JSON
    )
    data = draw(damaged(json.dumps(body).encode()) | st.binary(max_size=60))
    attributes = {"model_id": draw(MODEL_IDS), **draw(ATTRIBUTES)}
    return Message(data, attributes, draw(st.text(max_size=4)), draw(PUBLISHED))


@st.composite
def heartbeats(draw: st.DrawFn) -> Message:
    """A heartbeat, one in two damaged."""
    sound = heartbeat(draw(st.text(max_size=4)), [], sequence=draw(LONGS), time=draw(TIMES))
    attributes = {**sound.attributes, **draw(st.just({}) | ATTRIBUTES)}
    return sound._replace(data=draw(damaged(sound.data)), attributes=attributes)


@st.composite
def sound(draw: st.DrawFn) -> Message:
    """A message whose envelopes mostly become rows, so that damage is found far behind."""
    bodies = draw(st.lists(SCORED | NUMBERED, min_size=1, max_size=3))
    model_id = "numbers" if "number" in bodies[0]["request"] else "scores"
    if draw(st.booleans()):
        return plain(model_id, bodies[0], message_id="m")
    message = packed(model_id, bodies)
    data = zstandard.ZstdDecompressor().decompress(message.data)
    return message._replace(data=data, attributes={**message.attributes, "encoding": "avro"})


SCORED = st.lists(st.floats(0, 1), min_size=1, max_size=3).map(lambda values: scored(*values))
NUMBERED = st.integers(-(2**63), 2**63 - 1).map(
    lambda number: {"request": {"number": number}, "response": 1}
)
MESSAGES = packs() | plains() | heartbeats() | sound() | sound()


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """An archive file, one in two damaged; or bytes that are none."""
    messages = draw(st.lists(plains(), max_size=3))
    codec = draw(st.sampled_from(["null", "deflate", "snappy", "zstandard", "bzip2", "xz", "lz4"]))
    return draw(damaged(encode_archive(messages, codec)) | st.binary(max_size=100))


def mutations(example: Any, number: int) -> Iterator[Any]:
    """The example, damaged in one way after another, without end."""
    chance = Random(number)
    while True:
        if isinstance(example, bytes):
            yield _damaged(example, chance)
        elif chance.random() < 0.8:
            yield example._replace(data=_damaged(example.data, chance))
        else:
            attributes = dict(example.attributes)
            if attributes:
                name = chance.choice(sorted(attributes))
                text = _damaged(attributes[name].encode(errors="replace"), chance)
                attributes[name] = text.decode(errors="replace")
            yield example._replace(attributes=attributes)


def _damaged(data: bytes, chance: Random) -> bytes:
    """With bits flipped, a part left out or twice, or a number in it made extreme."""
    if not data:
        return chance.randbytes(chance.randrange(8))
    place, size = chance.randrange(len(data)), chance.choice([1, 1, 2, 4, 20])
    part = data[place : place + size]
    new = chance.choice(
        [
            bytes([data[place] ^ (1 << chance.randrange(8))]) + part[1:],
            b"",
            part * 2,
            chance.randbytes(len(part)),
            chance.choice([b"\xff" * 9 + b"\x01", b"\x00", b"\x01", b"[" * 40, b"1" * 30, b"NaN"]),
        ]
    )
    return data[:place] + new + data[place + size :]
