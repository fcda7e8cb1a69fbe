"""Blocks of archive files, unpacked within a bound."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import Any

import zstandard

MAX_BLOCK_BYTES = 64 << 20
"""Messages have up to 10 MB, and writers begin a new block far below this."""
_XZ_MEMORY_BYTES = 256 << 20


class BlockTooLarge(Exception):
    """A block that unpacks to more than it may; nothing of it was kept."""


def unpack_block(codec: str, data: bytes, limit: int = MAX_BLOCK_BYTES) -> bytes:
    """The bytes of a block's records; of a truncated one those that are left, if the codec can.

    Args:
        codec: as the file's header names it.
        data: the block.
        limit: the most bytes that it may unpack to.

    Raises:
        BlockTooLarge: it is more.
        Exception: whatever the codec's library raises for broken data, ValueError without one.
    """
    try:
        unpack = _UNPACK[codec]
    except KeyError:
        raise ValueError("unknown codec") from None
    out = unpack(data, limit)
    if len(out) > limit:
        raise BlockTooLarge
    return out


def _null(data: bytes, limit: int) -> bytes:
    return data


def _deflate(data: bytes, limit: int) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit + 1)


def _bzip2(data: bytes, limit: int) -> bytes:
    stream = bz2.BZ2Decompressor()
    return _whole(stream, stream.decompress(data, limit + 1), limit)


def _xz(data: bytes, limit: int) -> bytes:
    stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
    return _whole(stream, stream.decompress(data, limit + 1), limit)


def _whole(stream: Any, out: bytes, limit: int) -> bytes:
    if not stream.eof and len(out) <= limit:
        raise ValueError("truncated")
    return out


def _zstandard(data: bytes, limit: int) -> bytes:
    # A decompressor of its own: one shared by threads crashes them.
    found: bytes = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(limit + 1)
    return found


def _snappy(data: bytes, limit: int) -> bytes:
    import cramjam

    packed = data[:-4]  # behind it stands a checksum
    _check_claim(cramjam.snappy.decompress_raw_len(packed), limit)
    return bytes(cramjam.snappy.decompress_raw(packed))


def _lz4(data: bytes, limit: int) -> bytes:
    import lz4.block

    _check_claim(int.from_bytes(data[:4], "little"), limit)
    found: bytes = lz4.block.decompress(data)
    return found


def _check_claim(size: int, limit: int) -> None:
    # Both allocate what the block claims to unpack to.
    if size > limit:
        raise BlockTooLarge


_UNPACK = {
    "null": _null,
    "deflate": _deflate,
    "bzip2": _bzip2,
    "xz": _xz,
    "zstandard": _zstandard,
    "snappy": _snappy,
    "lz4": _lz4,
}
