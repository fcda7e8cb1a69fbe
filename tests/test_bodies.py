import gzip
import json
import math
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from weighbridge import DecodeError
from weighbridge.bodies import parse_json, parse_lenient, undo_encoding


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def zstd_of_unknown_size(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


Compress = Callable[[bytes], bytes]
COMPRESS: dict[str, tuple[str, Compress]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstandard.compress),
    "zstd of unknown size": ("zstd", zstd_of_unknown_size),
}
every = pytest.mark.parametrize(("name", "compress"), COMPRESS.values(), ids=COMPRESS)
LIMIT = 1000


@every
@pytest.mark.parametrize("body", [b"", b"{}", bytes(range(256)) * 300])
def test_encodings_are_undone(name: str, compress: Compress, body: bytes) -> None:
    assert undo_encoding(compress(body), name) == body


@pytest.mark.parametrize("encoding", ["", "identity", " Identity ", ",", "identity, identity"])
def test_no_encoding(encoding: str) -> None:
    assert undo_encoding(b"abc", encoding) == b"abc"


@given(st.lists(st.sampled_from(list(COMPRESS.values())), max_size=4), st.binary(max_size=50))
def test_chains_are_undone_from_the_last(chain: list[tuple[str, Compress]], body: bytes) -> None:
    data = body
    for _, compress in chain:
        data = compress(data)
    names = ", ".join(name.upper() for name, _ in chain)
    assert undo_encoding(data, names) == body


def test_several_gzip_members_are_one_body() -> None:
    assert undo_encoding(gzip.compress(b"a") + gzip.compress(b"b"), "gzip") == b"ab"


@every
def test_size_below_at_and_above_the_limit(name: str, compress: Compress) -> None:
    for size in (LIMIT - 1, LIMIT):
        assert undo_encoding(compress(bytes(size)), name, LIMIT) == bytes(size)
    for size in (LIMIT + 1, 100 * LIMIT):
        with pytest.raises(DecodeError):
            undo_encoding(compress(bytes(size)), name, LIMIT)


@every
def test_truncated(name: str, compress: Compress) -> None:
    whole = compress(b'{"a": [1, 2, 3]}' * 9)
    for length in range(1, len(whole)):
        with pytest.raises(DecodeError):
            undo_encoding(whole[:length], name)


@every
def test_trailing_garbage(name: str, compress: Compress) -> None:
    with pytest.raises(DecodeError):
        undo_encoding(compress(b'{"a": 1}') + b"garbage", name)


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "br", "zstd"])
def test_nothing_is_not_something_compressed(name: str) -> None:
    with pytest.raises(DecodeError, match=f"body is not valid {name}"):
        undo_encoding(b"", name)


NAMES = st.sampled_from(["gzip", "deflate", "br", "zstd", "identity", "", "lzw"])


@given(st.binary(max_size=200), st.lists(NAMES, max_size=3))
def test_garbage_is_refused_or_read_within_the_limit(data: bytes, names: list[str]) -> None:
    try:
        body = undo_encoding(data, ",".join(names), LIMIT)
    except DecodeError:
        return
    assert body == data or len(body) <= LIMIT


@given(st.sampled_from(list(COMPRESS.values())), st.integers(0), st.integers(1, 255))
def test_flipped_bits(how: tuple[str, Compress], place: int, bits: int) -> None:
    name, compress = how
    damaged = bytearray(compress(b'{"a": [1, 2, 3]}' * 9))
    damaged[place % len(damaged)] ^= bits
    try:
        assert len(undo_encoding(bytes(damaged), name, LIMIT)) <= LIMIT
    except DecodeError as error:
        assert error.stage == "decode"


@pytest.mark.parametrize("encoding", ["lzw", "gzip;q=1", "gzip br", "compress", "canary"])
def test_unknown_encodings_are_not_quoted(encoding: str) -> None:
    with pytest.raises(DecodeError) as caught:
        undo_encoding(b"canary", encoding)
    cause = "content encoding is not one of br, deflate, gzip, x-gzip, zstd, identity"
    assert str(caught.value) == cause


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    size = 16 << 20
    return {case: compress(bytes(size)) for case, (_, compress) in COMPRESS.items()}


@pytest.mark.parametrize("case", COMPRESS)
def test_a_bomb_is_not_unpacked(bombs: dict[str, bytes], case: str) -> None:
    limit = 1 << 20
    assert len(bombs[case]) < 20_000
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            undo_encoding(bombs[case], COMPRESS[case][0], limit)
        assert tracemalloc.get_traced_memory()[1] < 4 * limit
    finally:
        tracemalloc.stop()


def test_a_bomb_in_a_bomb() -> None:
    nested = gzip.compress(gzip.compress(bytes(64 << 20)))
    assert len(nested) < 1000
    with pytest.raises(DecodeError, match=f"more than {1 << 20} bytes"):
        undo_encoding(nested, "gzip, gzip", 1 << 20)


def test_very_many_members_cost_no_more_than_their_bytes() -> None:
    """With a copy of the rest for each of them this would take minutes."""
    members = gzip.compress(b"") * 200_000
    assert undo_encoding(members, "gzip") == b""


JSON: dict[bytes, Any] = {
    b"{}": {},
    b"null": None,
    b' [1, "a", true] ': [1, "a", True],
    b"1e3": 1000.0,
    b'"\xc3\xa9"': "é",
    b'"NaN"': "NaN",
    b'{"a": 1, "a": 2}': {"a": 2},
    b"18446744073709551615": 2**64 - 1,
    b"-9223372036854775808": -(2**63),
}


@pytest.mark.parametrize("text", JSON)
def test_json(text: bytes) -> None:
    assert parse_json(text) == (JSON[text], False)


def test_nan_and_infinity_as_python_writes_them() -> None:
    value, used_nan = parse_json(
        b'{"a": NaN, "b": [Infinity, -Infinity], "c": 12345678901234567890123}'
    )
    assert used_nan
    assert math.isnan(value["a"])
    assert value["b"] == [math.inf, -math.inf]
    assert value["c"] == 12345678901234567890123


def test_integers_beyond_64_bits() -> None:
    """JSON knows no size; as a float they keep their magnitude, an int column refuses them."""
    text = b"123456789012345678901234567890"
    assert parse_json(text) == (float(text), False)
    assert parse_lenient(text) == int(text)


BAD_JSON = [
    b"",
    b" ",
    b"{",
    b"{'a': 1}",
    b'{"a": 1,}',
    b"nan",
    b"Nan",
    b"NaN,",
    b'{"Infinity"}',
    b'"\xff"',
    b'"NaN\xff"',
    b'"\\ud800"',
    b"1" * 5000,
    b"\xef\xbb\xbf{}",
    b"\xef\xbb\xbfNaN",
    json.dumps(["NaN"]).encode("utf-16"),
    json.dumps([math.nan]).encode("utf-32"),
    b"01",
    b"\0",
]


@pytest.mark.parametrize("text", BAD_JSON)
def test_what_is_no_json(text: bytes) -> None:
    if text == b"1" * 5000:  # a number, but of a size that neither parser takes exactly
        assert_refused(parse_lenient, text)
    else:
        assert_refused(parse_json, text)


def assert_refused(parse: Callable[[bytes], Any], text: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        parse(text)
    assert str(caught.value) == "body is not JSON"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("within", [b"1", b"NaN"])
def test_nesting(opening: bytes, within: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    deep, too_deep = (opening * n + within + closing * n for n in (200, 100_000))
    assert parse_json(deep)[1] == (within == b"NaN")
    with pytest.raises(DecodeError, match="nested too deeply"):
        parse_json(too_deep)


@given(st.binary(max_size=50) | st.text(alphabet='{}[]":,019.eE-aNIfinity\\u', max_size=30))
def test_any_bytes_are_json_or_a_refusal(text: bytes | str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    for parse in (parse_json, parse_lenient):
        try:
            parse(data)
        except DecodeError as error:
            assert str(error).startswith("body is ")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=9,
)


@given(json_values)
def test_whatever_python_writes_is_read(value: Any) -> None:
    text = json.dumps(value)
    read, used_nan = parse_json(text.encode())
    assert json.dumps(read) == text
    assert not used_nan or "NaN" in text or "Infinity" in text
