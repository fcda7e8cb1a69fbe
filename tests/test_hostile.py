"""Input made to do harm is refused within bounded memory; each case in a process that has no more.

Time is bounded by the work, and is not measured; a case that never ended would end the test.
"""

import bz2
import io
import json
import lzma
import resource
import struct
import zlib
from pathlib import Path
from typing import Any

import fastavro
import pytest
import zstandard
from forked import in_fork
from support import NOW, Home, micros, packed, plain, scored

from pipelines.decode import decode
from weighbridge import Envelope, RecordError
from weighbridge.archive import (
    Message,
    UnreadableArchive,
    decode_message,
    encode_message,
    read_archive,
)
from weighbridge.codecs import MAX_BLOCK_BYTES
from weighbridge.envelope import Origin
from weighbridge.wire import MAX_BATCH_BYTES

MIB = 1 << 20
SLOW = pytest.mark.slow
MARKER = b"S" * 16


def said_of(folder: Path, what: str, data: bytes, allowed: int) -> str:
    """What a process says that may take so much more memory than it has."""
    path = folder / "input"
    path.write_bytes(data)
    status, out, err = in_fork(read, what, allowed, path)
    assert status == 0, err
    return out.strip()


def read(what: str, allowed: int, path: Path) -> None:
    data = path.read_bytes()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + allowed, size + allowed))
    try:
        if what == "archive":
            print("messages", sum(1 for _ in read_archive(io.BytesIO(data))))
        elif what == "message":
            decoded = decode(decode_message(data), 10 << 20)
            assert not isinstance(decoded, dict)
            print("decoded", decoded.model_id)
        else:
            origin = Origin("m", request_encoding=what, max_bytes=10 << 20)
            print("body", type(Envelope(origin, "e", 0, data).request).__name__)
    except (RecordError, UnreadableArchive) as error:
        print(type(error).__name__, error)


def varint(number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    return out.getvalue()


def archive(block: bytes, codec: str = "null", fields: Any = None, records: int = 1) -> bytes:
    """An archive file of one block as it is, whatever it claims."""
    fields = fields or [{"name": "data", "type": "bytes"}]
    schema = {"type": "record", "name": "M", "fields": fields}
    out = io.BytesIO()
    fastavro.writer(out, schema, [], codec=codec, sync_marker=MARKER)
    return out.getvalue() + varint(records) + varint(len(block)) + block + MARKER


def gzip_of(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    return stream.compress(data) + stream.flush()


def deflate_of(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


ZEROS = varint(1 << 30) + bytes(1 << 30)
"""A record of a gigabyte."""
BLOCKS = {
    "deflate": lambda: deflate_of(ZEROS),
    "bzip2": lambda: bz2.compress(ZEROS),
    "xz": lambda: lzma.compress(ZEROS, preset=0),
    "zstandard": lambda: zstandard.ZstdCompressor().compress(ZEROS),
    # These two say at once how much they unpack to.
    "snappy": lambda: b"\x80\x80\x80\x80\x04" + b"\xfe\x01\x00" * 1000 + bytes(4),
    "lz4": lambda: struct.pack("<I", 1 << 30) + b"\x1f\x00\x01\x00" + b"\xff" * 100_000,
}
QUICK_BLOCKS = {"zstandard", "snappy"}


@pytest.mark.parametrize(
    "codec",
    [pytest.param(c, marks=[] if c in QUICK_BLOCKS else pytest.mark.slow) for c in BLOCKS],
)
def test_blocks_that_unpack_to_gigabytes(tmp_path: Path, codec: str) -> None:
    data = archive(BLOCKS[codec](), codec)
    said = said_of(tmp_path, "archive", data, 5 * MAX_BLOCK_BYTES + len(data))
    assert said.startswith("UnreadableArchive")
    assert "bytes of it are damaged (BlockTooLarge)" in said


RECURSIVE = [{"name": "data", "type": ["null", "M"]}]
NOTHINGS = [
    {"name": "data", "type": "bytes"},
    {"name": "more", "type": {"type": "array", "items": "null"}},
]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # Its reader would overflow the stack of C, and end the process.
        (archive(b"\x02" * 20_000_000 + b"\x00", fields=RECURSIVE), "a field is nested"),
        (archive(b"\x00" + varint(1 << 40) + b"\x00", fields=NOTHINGS), "a field is nested"),
        (archive(varint(1 << 40) + b"x"), "bytes of it are damaged (EOFError)"),
        (archive(varint(-(1 << 40)) + b"x"), "bytes of it are damaged"),
        (archive(b"", records=1 << 60), "bytes of it are damaged"),
        (b"Obj\x01" + varint(1) + varint(11) + b"avro.schema" + varint(1 << 40), "no Avro file"),
        (b"Obj\x01" + varint(1 << 60), "no Avro file"),
        (archive(b"x")[:-20] + varint(1 << 40) + b"x", "bytes of it are damaged"),
    ],
)
def test_files_that_claim_what_is_not_there(tmp_path: Path, data: bytes, said: str) -> None:
    assert said in said_of(tmp_path, "archive", data, 4 * len(data) + 64 * MIB)


def message(data: bytes, encoding: str) -> bytes:
    attributes = {"content": "weighbridge.batch.v1", "encoding": encoding, "model_id": "scores"}
    return encode_message(Message(data, attributes, "m", micros(NOW)))


STRINGS = b"".join(varint(len(part)) + part for part in (b"b", b"p", b"scores", b"1"))


@pytest.mark.parametrize(
    ("data", "encoding", "said"),
    [
        (zstandard.ZstdCompressor().compress(ZEROS), "avro+zstd", "unpacks to more than"),
        (STRINGS + varint(1 << 60), "avro", "data is not valid avro"),
        (varint(1 << 40) + b"b", "avro", "data is not valid avro"),
        pytest.param(bytes(MAX_BATCH_BYTES), "avro", "data", marks=SLOW),
        pytest.param(b"\x02" * MAX_BATCH_BYTES, "avro", "data is not valid avro", marks=SLOW),
    ],
)
def test_packs_that_claim_gigabytes(tmp_path: Path, data: bytes, encoding: str, said: str) -> None:
    assert said in said_of(tmp_path, "message", message(data, encoding), 10 * MAX_BATCH_BYTES)


@pytest.mark.parametrize(
    "encoding",
    ["br", "zstd", *(pytest.param(e, marks=SLOW) for e in ("gzip", "deflate", "gzip, gzip"))],
)
def test_bodies_that_unpack_to_gigabytes(tmp_path: Path, encoding: str) -> None:
    zeros = bytes(1 << 30)
    packing = {
        "gzip": lambda: gzip_of(zeros),
        "gzip, gzip": lambda: gzip_of(gzip_of(zeros)),
        "deflate": lambda: zlib.compress(zeros),
        "zstd": lambda: zstandard.ZstdCompressor().compress(zeros),
        "br": lambda: _brotli(zeros[: 256 * MIB]),
    }
    said = said_of(tmp_path, encoding, packing[encoding](), 100 * MIB)
    assert said == f"DecodeError unpacks to more than {10 * MIB} bytes"


def _brotli(data: bytes) -> bytes:
    import brotli

    packed: bytes = brotli.compress(data, quality=1)
    return packed


def test_a_body_that_unpacks_to_itself_for_ever(tmp_path: Path) -> None:
    said = said_of(tmp_path, ",".join(["gzip"] * 9_000), gzip_of(b"1"), 100 * MIB)
    assert said == "DecodeError more than 8 content encodings"


@pytest.mark.parametrize(
    "start",
    [
        b"[",
        *(
            pytest.param(s, marks=pytest.mark.slow)
            for s in (b'{"a":', b"[1234567890123456789,", b"[NaN,")
        ),
    ],
)
def test_json_that_is_nested_deeply(tmp_path: Path, start: bytes) -> None:
    deep = start * (9 * MIB // len(start))
    assert said_of(tmp_path, "", deep, 300 * MIB).startswith("DecodeError body is ")
    data = b'{"request": ' + deep + b', "response": 1}'
    body = encode_message(Message(data, {"model_id": "scores"}, "m", micros(NOW)))
    assert said_of(tmp_path, "message", body, 400 * MIB).startswith("DecodeError body is ")


LONG = "s" * 10_000
HOSTILE_IDS = [
    "../../etc/passwd",
    "..",
    "/",
    "a/b",
    "a\\b",
    "scores\x00",
    "scores\n",
    "sc\u043eres",
    "\uff53cores",
    "scores\u200b",
    "\u202escores",
    "-scores",
    LONG,
]


@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_hostile_model_ids_name_no_file_and_no_metric(tmp_path: Path, kind: str) -> None:
    home = Home(tmp_path)
    messages = []
    for number, model_id in enumerate(HOSTILE_IDS):
        if kind == "plain":
            messages.append(plain(model_id, scored(0.5), message_id=f"m-{number}"))
        else:
            messages.append(packed(model_id, [scored(0.5)], first=number))
    home.put(*messages, packed("scores", [scored(0.5)], first=99))
    report = home.run()
    assert report.rows == 1
    assert report.failures == {"route": len(HOSTILE_IDS)}
    own = {name for name in report.counts if name.startswith("weighbridge.")}
    assert own == {"weighbridge.failures", "weighbridge.costs"}
    assert set(report.counts) - own <= {"unknown_model", "scores"}
    letters = {one.message_id: one for one in home.stored("failures")}
    assert len(letters) == len(HOSTILE_IDS)
    for one in messages:
        letter = letters[one.message_id]
        assert letter.data == one.data
        assert letter.attributes["model_id"] == one.attributes["model_id"]
        assert LONG not in letter.attributes["failure_message"]
    names = json.dumps([str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")])
    assert not any(json.dumps(one)[1:-1] in names for one in HOSTILE_IDS if len(one) > 3)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "in"}
