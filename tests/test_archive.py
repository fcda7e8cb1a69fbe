import io
import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.archive import (
    Message,
    UnreadableArchive,
    encode_archive,
    is_archive_name,
    read_archive,
    write_archive,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CODECS = ["null", "deflate", "snappy", "zstandard", "bzip2", "xz", "lz4"]
GOOGLE: dict[str, Any] = {
    "subscription_name": "string",
    "message_id": "string",
    "publish_time": {"type": "long", "logicalType": "timestamp-micros"},
    "ordering_key": "string",
    "attributes": {"type": "map", "values": "string"},
    "data": "bytes",
}
"""The fields in the order in which Pub/Sub's Cloud Storage subscription writes them."""


def message(number: int, size: int = 40) -> Message:
    data = f"<{number:06}>".encode().ljust(size, b"\x80")
    attributes = {"model_id": "flights", "n": str(number)}
    return Message(data, attributes, f"m-{number}", 1_700_000_000_000_000 + number, "key", "sub")


def write(
    messages: list[Any],
    fields: dict[str, Any] = GOOGLE,
    codec: str = "null",
    block: int = 16_000,
) -> bytes:
    """A file by a writer that is not ours."""
    schema = {
        "type": "record",
        "name": "PubsubMessage",
        "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
    }
    records = [
        {name: value for name, value in given.items() if name in fields}
        for given in (one._asdict() if isinstance(one, Message) else one for one in messages)
    ]
    out = io.BytesIO()
    fastavro.writer(out, schema, records, codec=codec, sync_interval=block, sync_marker=b"S" * 16)
    return out.getvalue()


def read(data: bytes) -> list[Message]:
    return list(read_archive(io.BytesIO(data)))


def read_damaged(data: bytes) -> tuple[list[Message], str]:
    """What could be read, and what is said of the rest ("" if all seemed well)."""
    found: list[Message] = []
    try:
        found.extend(read_archive(io.BytesIO(data)))  # extend keeps what came before an exception
    except UnreadableArchive as error:
        return found, str(error)
    return found, ""


messages = st.builds(
    Message,
    data=st.binary(max_size=50),
    attributes=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    message_id=st.text(max_size=5),
    publish_time=st.none() | st.integers(1, 253_402_300_799_999_999),
    ordering_key=st.text(max_size=5),
    subscription_name=st.text(max_size=5),
)


@given(st.lists(messages, max_size=5), st.sampled_from(["null", "deflate"]))
def test_what_is_written_is_read(written: list[Message], codec: str) -> None:
    assert read(encode_archive(written, codec)) == written


@given(st.lists(messages, min_size=1, max_size=3))
def test_equal_messages_give_equal_bytes(written: list[Message]) -> None:
    turned = [
        one._replace(attributes=dict(reversed(list(one.attributes.items())))) for one in written
    ]
    assert turned == written
    assert encode_archive(turned) == encode_archive(written)


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_of_googles_writer_in_every_codec(codec: str) -> None:
    written = [message(i, 500) for i in range(100)]
    assert read(write(written, codec=codec)) == written


@given(st.permutations(list(GOOGLE)))
def test_fields_in_any_order(order: list[str]) -> None:
    written = [message(i) for i in range(3)]
    assert read(write(written, {name: GOOGLE[name] for name in order})) == written


@pytest.mark.parametrize("kept", range(1, 7))
def test_trailing_fields_may_be_missing(kept: int) -> None:
    contract = ["data", "message_id", "publish_time", "attributes", "ordering_key"]
    names = [*contract, "subscription_name"][:kept]
    [found] = read(write([message(1)], {name: GOOGLE[name] for name in names}))
    defaults = Message(b"", {})._asdict()
    assert found == Message(**{**defaults, **{name: message(1)._asdict()[name] for name in names}})


def test_nulls() -> None:
    nullable = {name: ["null", kind] for name, kind in GOOGLE.items()}
    nullable["attributes"] = ["null", {"type": "map", "values": ["null", "string"]}]
    nothing = dict.fromkeys(GOOGLE)
    some = {**message(1)._asdict(), "attributes": {"model_id": "flights", "gone": None}}
    found = read(write([nothing, some, message(2)], nullable))
    known = message(1)._replace(attributes={"model_id": "flights"})
    assert found == [Message(b"", {}), known, message(2)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ({"type": "long", "logicalType": "timestamp-millis"}, EPOCH + timedelta(seconds=1)),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, datetime(1970, 1, 1, 0, 0, 1)),
        ("long", 1_000_000),
    ],
)
def test_publish_time_of_other_writers(kind: Any, value: Any) -> None:
    written = {**message(1)._asdict(), "publish_time": value}
    assert read(write([written], {**GOOGLE, "publish_time": kind}))[0].publish_time == 1_000_000


def test_unknown_fields_are_passed_over() -> None:
    assert read(write([{**message(1)._asdict(), "more": 3}], {"more": "int", **GOOGLE})) == [
        message(1)
    ]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("left", [0.3, 0.7, 0.999])
def test_a_truncated_file_gives_its_first_messages(codec: str, left: float) -> None:
    written = [message(i, 400) for i in range(500)]
    data = write(written, codec=codec, block=4000)
    found, complaint = read_damaged(data[: int(len(data) * left)])
    assert 0 < len(found) < 500 or (len(found) == 500 and left == 0.999)
    assert found == written[: len(found)]
    assert "bytes of it are damaged" in complaint


def test_a_cut_within_a_block_costs_only_what_was_cut() -> None:
    written = [message(i) for i in range(50)]
    data = write(written)
    cut = data.index(b"<000030>")
    assert read_damaged(data[:cut])[0] == written[:30]


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_a_broken_sync_marker_costs_no_message(codec: str) -> None:
    written = [message(i) for i in range(50)]
    data = write(written, codec=codec, block=500)
    second = data.index(b"S" * 16, data.index(b"S" * 16) + 16)
    found, complaint = read_damaged(data[:second] + b"x" * 16 + data[second + 16 :])
    assert found == written
    assert complaint == "16 bytes of it are damaged (sync marker)"


def blocks_of(data: bytes, count: int) -> list[tuple[int, int, int, int]]:
    """Per block: where it starts, where it ends with its marker, its first and last message."""
    stream = io.BytesIO(data)
    blocks, first = [], 0
    for block in fastavro.block_reader(stream):
        last = first + block.num_records
        blocks.append((block.offset, block.offset + block.size, first, last))
        first = last
    assert first == count
    return blocks


FILES = {codec: write([message(i) for i in range(60)], codec=codec, block=600) for codec in CODECS}
WRITTEN = [message(i) for i in range(60)]


CHECKED = {"bzip2", "xz"}
"""Codecs whose checksums fastavro looks at; it passes over snappy's."""


class Damage(NamedTuple):
    """Bytes of a file that are replaced by others."""

    codec: str
    start: int
    end: int
    by: bytes


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    codec = draw(st.sampled_from(CODECS))
    length = len(FILES[codec])
    start = draw(st.integers(0, length - 1))
    end = min(length, start + draw(st.integers(0, 30) | st.integers(0, length)))
    by = draw(st.binary(max_size=40) | st.sampled_from([b"", b"S" * 16]))
    return Damage(codec, start, end, by)


@given(damages())
def test_damage_anywhere_costs_only_its_surroundings(damage: Damage) -> None:
    codec, start, end, by = damage
    sound = FILES[codec]
    blocks = blocks_of(sound, 60)
    found, _ = read_damaged(sound[:start] + by + sound[end:])
    before = max((last for _, until, _, last in blocks if until <= start), default=0)
    if codec == "null":
        before = sum(sound.index(one.data) + len(one.data) <= start for one in WRITTEN)
    assert found[:before] == WRITTEN[:before]
    if start >= blocks[0][0]:  # else it is in the header, and the marker may be another one
        # The block behind a marker that moved cannot be found; those behind that one can.
        after = [first for at, _, first, _ in blocks if at >= end][1:2]
        behind = WRITTEN[after[0] :] if after else []
        assert found[len(found) - len(behind) :] == behind


@given(st.sampled_from(CODECS), st.integers(0), st.integers(1, 255))
def test_a_flipped_byte_loses_nothing_without_a_word(codec: str, place: int, bits: int) -> None:
    damaged = bytearray(FILES[codec])
    damaged[place % len(damaged)] ^= bits
    found, complaint = read_damaged(bytes(damaged))
    assert complaint or len(found) == 60
    # The others have no checksum: a flipped byte of a payload makes another payload.
    in_blocks = place % len(damaged) >= blocks_of(FILES[codec], 60)[0][0]
    assert complaint or found == WRITTEN or not (in_blocks and codec in CHECKED)


@given(st.binary(max_size=300))
def test_anything_behind_the_header(noise: bytes) -> None:
    header = write([])
    found, complaint = read_damaged(header + noise)
    assert all(isinstance(one, Message) for one in found)
    assert complaint or found or not noise


@given(st.binary(max_size=200))
def test_what_is_no_avro(noise: bytes) -> None:
    for data in (noise, b"Obj\x01" + noise):
        found, complaint = read_damaged(data)
        assert found == []
        assert "no Avro file" in complaint


def test_avro_of_something_else() -> None:
    for data in (
        write([{"x": 1}], {"x": "int"}),
        write([{"message_id": "m"}], {"message_id": "string"}),
    ):
        found, complaint = read_damaged(data)
        assert found == []
        assert "no field data" in complaint
    out = io.BytesIO()
    fastavro.writer(out, "string", ["a"])
    assert read_damaged(out.getvalue())[0] == []


def varint(number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    return out.getvalue()


@pytest.mark.parametrize("count", [0, 1, 2, 4, 2**40, -1, -3, 2**63 - 1])
def test_a_count_that_is_wrong_does_not_pass_unnoticed(count: int) -> None:
    """A smaller one would lose messages without a trace."""
    written = [message(i) for i in range(3)]
    data, header = write(written), write([])
    assert data[len(header) :].startswith(varint(3))
    found, complaint = read_damaged(header + varint(count) + data[len(header) + 1 :])
    assert found == written[: max(0, min(count, 3))]
    assert complaint


@pytest.mark.parametrize("size", [0, 5, 10_000, 2**40, 2**62, 2**63 - 1, -1, -30, -(2**63)])
def test_a_size_that_is_wrong(size: int) -> None:
    data, header = write([message(i) for i in range(3)]), write([])
    one, two = data[len(header) :], data[len(header) :]
    start = 1 + len(varint(len(one) - 16 - 3))
    found, complaint = read_damaged(header + one[:1] + varint(size) + one[start:] + two)
    assert found[-3:] == [message(i) for i in range(3)]
    assert complaint


def test_records_of_no_bytes_have_an_end() -> None:
    header = write([], {"data": "null"})
    endless = header + varint(2**60) + varint(0) + b"S" * 16
    assert read_damaged(endless)[0] == []


class CountingStream(io.BytesIO):
    """Bytes that know how many of them were asked for."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.mark.parametrize("broken", ["records", "markers"])
def test_much_damage_is_passed_over_in_linear_time(broken: str) -> None:
    data = write([message(i, 2000) for i in range(1500)], block=10_000)
    header = write([])
    if broken == "records":
        data = data.replace(b"key", b"\xff\xff\xff")
    else:
        data = header + data[len(header) :].replace(b"S" * 16, b"x" * 16)
    stream = CountingStream(data)
    with pytest.raises(UnreadableArchive):
        list(read_archive(stream))
    assert stream.count < 15 * len(data)


class FailingDisk(io.BytesIO):
    """A disk that fails behind the first block: nothing is wrong with the file itself."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 2000:
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_a_failing_disk_is_no_damage() -> None:
    """The bundle must fail and be retried; taken for damage the messages would be left out."""
    stream = FailingDisk(write([message(i) for i in range(100)], block=500))
    with pytest.raises(OSError, match="Input/output"):
        list(read_archive(stream))


def test_write_archive(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.avro"
    write_archive(path, [message(1), message(2)])
    assert read(path.read_bytes()) == [message(1), message(2)]
    assert path.read_bytes() == encode_archive([message(1), message(2)])
    assert [file.name for file in path.parent.iterdir()] == ["a.avro"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """Or each retry would fill it further."""
    program = f"""
import resource
from pathlib import Path
from weighbridge.archive import Message, write_archive
resource.setrlimit({resource.RLIMIT_FSIZE}, (1000, 1000))
try:
    write_archive(Path({str(tmp_path)!r}) / "a.avro", [Message(bytes(5000), {{}})])
except OSError as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("OSError\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "readable"),
    [
        ("a.avro", True),
        ("gs://bucket/2026/a", True),
        (".folder/a.avro", True),
        ("folder/.a.avro", False),
        (".a.avro.123.tmp", False),
        ("a.avro.tmp", False),
        ("a.tmp/b", True),
    ],
)
def test_names_that_are_read(path: str, readable: bool) -> None:
    assert is_archive_name(path) == readable
