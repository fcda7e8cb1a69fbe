import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import fastavro
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from weighbridge import DecodeError
from weighbridge.wire import (
    ARRAYS,
    BATCH_CONTENT,
    HEARTBEAT_CONTENT,
    MAX_BATCH_BYTES,
    Batch,
    pack,
    unpack,
    unpack_heartbeat,
)

DATA = Path(__file__).parent / "data"
PACKAGE = Path(__file__).parents[1] / "handlers/weighbridge"
HEARTBEAT_SCHEMA = fastavro.parse_schema(json.loads((PACKAGE / "heartbeat.avsc").read_text()))
ONCE = [
    ("batch_id", "string"),
    ("publisher_id", "string"),
    ("model_id", "string"),
    ("model_version", "string"),
    ("kind", "string"),
    ("first_sequence", "long"),
    ("request_type", "string"),
    ("request_encoding", "string"),
    ("response_type", "string"),
    ("response_encoding", "string"),
    ("context_type", "string"),
    ("context_encoding", "string"),
]
EACH = [
    ("sequence_offset", "long"),
    ("event_time", "long"),
    ("status", ["null", "int"]),
    ("latency_us", ["null", "long"]),
    ("headers", "bytes"),
    ("attributes", "bytes"),
    ("request", ["null", "bytes"]),
    ("response", ["null", "bytes"]),
    ("context", ["null", "bytes"]),
    ("cut", "int"),
]


def batch(count: int = 2, **changes: Any) -> Batch:
    return {
        "batch_id": "p-7",
        "publisher_id": "p",
        "model_id": "flights",
        "model_version": "3",
        "kind": "prediction",
        "first_sequence": 7,
        **{f"{part}_type": "application/json" for part in ("request", "response", "context")},
        **{f"{part}_encoding": "" for part in ("request", "response", "context")},
        "sequence_offset": list(range(count)),
        "event_time": [1_700_000_000_000_000 + i for i in range(count)],
        "status": [200] * count,
        "latency_us": [None] * count,
        "headers": [b"{}"] * count,
        "attributes": [b'{"a":"b"}'] * count,
        "request": [b'{"x":1}'] * count,
        "response": [b'{"y":2}'] * count,
        "context": [None] * count,
        "cut": [0] * count,
        **changes,
    }


def encoded(*values: tuple[str, Any]) -> bytes:
    """Avro values one behind the other, as a record's fields stand."""
    out = io.BytesIO()
    for kind, value in values:
        fastavro.schemaless_writer(out, kind, value)
    return out.getvalue()


def once(**changes: Any) -> bytes:
    """What stands before the arrays."""
    return encoded(*((kind, batch(**changes)[name]) for name, kind in ONCE))


REAL = batch(3, context=[None, b"", b"{}"], status=[200, None, 503])
MESSAGES = [pack(REAL), pack(REAL, compress=False)]
message = st.sampled_from(MESSAGES)
long = st.integers(-(2**63), 2**63 - 1)
body = st.none() | st.binary(max_size=20)
PER_ENVELOPE = st.tuples(
    st.integers(0, 2**62), long, st.none() | st.integers(-(2**31), 2**31 - 1), st.none() | long,
    st.binary(max_size=9), st.binary(max_size=9), body, body, body, st.integers(0, 7),
)  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    envelopes = draw(st.lists(PER_ENVELOPE, max_size=5))
    columns = [list(column) for column in zip(*envelopes)] or [[] for _ in ARRAYS]
    texts = {name: draw(st.text(max_size=9)) for name, kind in ONCE if kind == "string"}
    kind = draw(st.sampled_from(["prediction", "actual"]))
    return {
        **texts,
        "kind": kind,
        "first_sequence": draw(st.integers(0, 2**62)),
        **dict(zip(ARRAYS, columns)),
    }


@given(batches(), st.booleans())
def test_what_is_packed_is_unpacked(original: Batch, compress: bool) -> None:
    assert unpack(*pack(original, compress=compress)) == original


def test_attributes_are_those_of_the_contract() -> None:
    attributes, _ = pack(batch(3))
    assert attributes == {
        "content": "weighbridge.batch.v1",
        "encoding": "avro+zstd",
        "model_id": "flights",
        "batch_id": "p-7",
        "publisher_id": "p",
        "first_sequence": "7",
        "envelope_count": "3",
    }
    assert pack(batch(), compress=False)[0]["encoding"] == "avro"


def test_schema_is_that_of_the_contract() -> None:
    schema = json.loads((PACKAGE / "envelope.avsc").read_text())
    fields = [(field["name"], field["type"]) for field in schema["fields"]]
    arrays = [(name, {"type": "array", "items": items}) for name, items in EACH]
    assert schema["name"] == "EnvelopeBatch"
    assert fields == [*ONCE, *arrays]
    assert tuple(name for name, _ in EACH) == ARRAYS


def test_golden_message_of_version_1() -> None:
    """A released message must be readable for ever: never change these files, add new ones."""
    known = json.loads((DATA / "batch-v1.json").read_text())
    data = (DATA / "batch-v1.avro-zstd").read_bytes()
    assert known["attributes"]["content"] == BATCH_CONTENT
    assert unpack(known["attributes"], data) == from_json(known["batch"])


def test_golden_heartbeat_of_version_1() -> None:
    known = json.loads((DATA / "heartbeat-v1.json").read_text())
    data = (DATA / "heartbeat-v1.avro").read_bytes()
    assert known["attributes"]["content"] == HEARTBEAT_CONTENT
    assert unpack_heartbeat(known["attributes"], data) == known["heartbeat"]


def from_json(fields: dict[str, Any]) -> Batch:
    """Bytes are written as text, one character (U+0000 to U+00FF) a byte."""
    binary = {name for name, items in EACH if "bytes" in items}
    return {
        name: [item if item is None else item.encode("latin-1") for item in value]
        if name in binary
        else value
        for name, value in fields.items()
    }


@given(st.binary(max_size=200), st.sampled_from(["avro", "avro+zstd"]))
def test_random_bytes_are_refused(data: bytes, encoding: str) -> None:
    with pytest.raises(DecodeError):
        unpack({"encoding": encoding}, data)
    with pytest.raises(DecodeError):
        unpack({"encoding": "avro+zstd"}, zstandard.compress(data))


@given(message, st.data())
def test_truncated_is_refused(real: tuple[dict[str, str], bytes], data: st.DataObject) -> None:
    attributes, whole = real
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DecodeError):
        unpack(attributes, whole[:length])


@given(message, st.binary(min_size=1, max_size=50))
def test_trailing_data_is_refused(real: tuple[dict[str, str], bytes], more: bytes) -> None:
    attributes, whole = real
    with pytest.raises(DecodeError):
        unpack(attributes, whole + more)


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("more", [b"x", zstandard.compress(b""), zstandard.compress(b"x")])
def test_data_behind_the_frame_is_refused(sized: bool, more: bytes) -> None:
    attributes, raw = MESSAGES[1]
    frame = zstandard.ZstdCompressor(write_content_size=sized).compress(raw)
    compressed = {**attributes, "encoding": "avro+zstd"}
    assert unpack(compressed, frame) == REAL
    with pytest.raises(DecodeError):
        unpack(compressed, frame + more)


@given(message, st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bits_give_a_batch_or_a_refusal(
    real: tuple[dict[str, str], bytes], flips: list[tuple[int, int]]
) -> None:
    attributes, whole = real
    damaged = bytearray(whole)
    for place, bits in flips:
        damaged[place % len(damaged)] ^= bits
    try:
        read = unpack(attributes, bytes(damaged))
    except DecodeError:
        return
    assert {len(read[name]) for name in ARRAYS} == {len(read["event_time"])}
    assert read["model_id"] == attributes["model_id"]


@given(st.dictionaries(st.sampled_from(["encoding", "model_id"]), st.text(max_size=9)))
def test_any_attributes_are_refused_or_read(attributes: dict[str, str]) -> None:
    with pytest.raises(DecodeError):
        unpack({"encoding": "", **attributes}, b"")


@pytest.mark.parametrize("encoding", ["", "AVRO", "avro ", "avro+gzip", "json", "zstd"])
def test_unknown_encoding(encoding: str) -> None:
    with pytest.raises(DecodeError, match='neither "avro" nor "avro\\+zstd"'):
        unpack({"encoding": encoding}, MESSAGES[1][1])


def test_the_wrong_encoding() -> None:
    (compressed, small), (plain, large) = MESSAGES
    for attributes, data in ((compressed, large), (plain, small)):
        with pytest.raises(DecodeError, match="data is not valid avro"):
            unpack(attributes, data)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_arrays_of_unequal_length(name: str, count: int) -> None:
    unequal = pack(batch(2, **{name: batch(count)[name]}))
    with pytest.raises(DecodeError, match="arrays differ in length"):
        unpack(*unequal)


def test_another_models_batch() -> None:
    attributes, data = pack(batch())
    with pytest.raises(DecodeError, match="model_id differs"):
        unpack({**attributes, "model_id": "other"}, data)


def test_unknown_kind() -> None:
    with pytest.raises(DecodeError, match="kind is neither"):
        unpack(*pack(batch(kind="feedback")))


def test_an_empty_batch() -> None:
    assert unpack(*pack(batch(0))) == batch(0)


def test_invalid_utf_8() -> None:
    attributes, data = pack(batch(model_version="é"), compress=False)
    with pytest.raises(DecodeError):
        unpack(attributes, data.replace("é".encode(), b"\xc3("))


def test_blocks_with_their_size_are_avro_too() -> None:
    """A negative count says that the block's size in bytes follows; some writers use it."""
    offsets = encoded(("long", 7), ("long", 8))
    sized = encoded(("long", -2), ("long", len(offsets))) + offsets + b"\0"
    _, data = pack(batch(), compress=False)
    usual = encoded(("long", 2)) + encoded(("long", 0), ("long", 1)) + b"\0"
    at = len(once())
    assert data[at : at + len(usual)] == usual
    read = unpack({"encoding": "avro"}, data[:at] + sized + data[at + len(usual) :])
    assert read == batch(sequence_offset=[7, 8])


@pytest.mark.parametrize(
    "tail",
    [
        encoded(("long", 2**62)),
        encoded(("long", 2**62)) + bytes(100),
        encoded(("long", -(2**63)), ("long", 2**62)) + bytes(100),
        encoded(("long", -5), ("long", -5)),
        b"\xff" * 30,
    ],
)
def test_counts_that_cannot_be(tail: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack({"encoding": "avro"}, once() + tail)


@pytest.mark.parametrize("length", [-1, -(2**63), 2**62, 2**63 - 1])
def test_lengths_that_cannot_be(length: int) -> None:
    with pytest.raises(DecodeError):
        unpack({"encoding": "avro"}, encoded(("long", length)) + once())


def compressed_zeros(before: bytes, count: int, *, sized: bool) -> bytes:
    size = len(before) + count if sized else -1
    frame = zstandard.ZstdCompressor(level=1).compressobj(size=size)
    zeros = (frame.compress(bytes(1 << 20)) for _ in range(count >> 20))
    return b"".join([frame.compress(before), *zeros, frame.flush()])


def peak_of_refusal(data: bytes, limit: int) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            unpack({"encoding": "avro+zstd"}, data, limit)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sized", [True, False])
def test_a_bomb_is_not_unpacked(sized: bool) -> None:
    bomb = compressed_zeros(b"", 512 << 20, sized=sized)
    assert len(bomb) < 100_000
    assert peak_of_refusal(bomb, 1 << 20) < 3 << 20
    if sized:
        assert peak_of_refusal(bomb, MAX_BATCH_BYTES) < 1 << 20


def test_a_batch_that_is_one_long_list_takes_nine_times_its_bytes_at_most() -> None:
    count = 4 << 20
    bomb = compressed_zeros(once() + encoded(("long", count + 1)), count, sized=True)
    assert len(bomb) < 2000
    assert peak_of_refusal(bomb, 5 << 20) < 10 * count


def test_size_at_and_above_the_limit() -> None:
    attributes, data = pack(batch())
    size = len(pack(batch(), compress=False)[1])
    assert unpack(attributes, data, size) == batch()
    with pytest.raises(DecodeError, match=f"more than {size - 1} bytes"):
        unpack(attributes, data, size - 1)


HEARTBEAT = {
    "publisher_id": "p",
    "time": 1_700_000_000_000_000,
    "sequence": 12,
    "models": [
        {
            "model_id": "flights",
            "served": 12,
            "sampled_out": 1,
            "dropped": {"queue_full": 2},
            "spooled": 3,
            "published": 9,
        }
    ],
}


def heartbeat(encoding: str = "avro") -> tuple[dict[str, str], bytes]:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, HEARTBEAT_SCHEMA, HEARTBEAT)
    data = out.getvalue()
    attributes = {"content": HEARTBEAT_CONTENT, "encoding": encoding}
    return attributes, zstandard.compress(data) if encoding == "avro+zstd" else data


@pytest.mark.parametrize("encoding", ["avro", "avro+zstd"])
def test_heartbeat(encoding: str) -> None:
    assert unpack_heartbeat(*heartbeat(encoding)) == HEARTBEAT


@given(st.binary(max_size=60), st.sampled_from(["avro", "avro+zstd", ""]))
def test_malformed_heartbeats(data: bytes, encoding: str) -> None:
    attributes, whole = heartbeat()
    for malformed in (whole + data + b"\0", whole[: -1 - len(data)]):
        with pytest.raises(DecodeError):
            unpack_heartbeat({**attributes, "encoding": encoding}, malformed)


def test_a_refusal_quotes_nothing() -> None:
    attributes, data = pack(batch(model_version="canary", kind="canary"), compress=False)
    for damaged in (data, data + b"canary", data[:-2], b"canary" * 9):
        with pytest.raises(DecodeError) as caught:
            unpack(attributes, damaged)
        assert "canary" not in str(caught.value)
