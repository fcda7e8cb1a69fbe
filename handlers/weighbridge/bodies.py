"""Bodies as HTTP carries them: content encodings undone within a bound, JSON parsed."""

from __future__ import annotations

import json
import threading
import zlib
from typing import Any

import orjson
import zstandard

from weighbridge.errors import DecodeError

MAX_BODY_BYTES = 64 << 20
MAX_ENCODINGS = 8
"""There are bodies that unpack to themselves; nobody packs one more than twice."""
_PIECE_BYTES = 16 << 10
_local = threading.local()


def undo_encoding(data: bytes, encoding: str, limit: int = MAX_BODY_BYTES) -> bytes:
    """Undo HTTP content encodings, last applied first.

    Args:
        data: the body as it was captured.
        encoding: a Content-Encoding value such as "gzip" or "deflate, br"; "" means none.
        limit: the most bytes any step may give; a bomb is refused without unpacking it whole.

    Raises:
        DecodeError: an unknown encoding, broken or truncated data, or more than `limit` bytes.
    """
    names = [part.strip().lower() for part in encoding.split(",")]
    if len(names) > MAX_ENCODINGS:
        raise DecodeError(f"more than {MAX_ENCODINGS} content encodings")
    for name in reversed(names):
        if name in ("", "identity"):
            continue
        try:
            data = _UNDO[name](data, limit)
        except KeyError:
            raise DecodeError(
                f"content encoding is not one of {', '.join(sorted(_UNDO))}, identity"
            ) from None
        except DecodeError:
            raise
        except Exception as error:  # each library has errors of its own; all mean "not such data"
            raise DecodeError(f"body is not valid {name}", error=type(error).__name__) from None
    return data


def parse_json(data: bytes) -> tuple[Any, bool]:
    """Parse JSON text, and whether it used NaN or Infinity, which Python services write.

    Raises:
        DecodeError: not JSON, or nested too deeply.
    """
    try:
        return orjson.loads(data), False
    except ValueError as error:
        if b"NaN" in data or b"Infinity" in data:
            return parse_lenient(data), True
        raise DecodeError(_reason(error)) from None


def parse_lenient(data: bytes) -> Any:
    """Parse JSON with NaN, Infinity and integers of any size.

    Raises:
        DecodeError: not JSON, or nested too deeply.
    """
    try:
        return json.loads(data.decode())  # given bytes it would take UTF-16 and UTF-32, too
    except (ValueError, RecursionError) as error:
        raise DecodeError(_reason(error)) from None


def _reason(error: Exception) -> str:
    # orjson's and json's messages end in a position and never quote the input beyond one character;
    # the position differs by record, so that it is no part of the cause.
    if isinstance(error, RecursionError) or "depth" in str(error):
        return "body is JSON that is nested too deeply"
    return "body is not JSON"


def _inflate(data: bytes, limit: int, window: int) -> bytes:
    out = bytearray()
    position = 0
    while position < len(data):
        stream = zlib.decompressobj(window)
        while not stream.eof:
            # By pieces, as zlib copies all that follows a member: for many of them a long time.
            piece = data[position : position + _PIECE_BYTES]
            if not piece:
                raise ValueError("truncated")
            out += stream.decompress(piece, limit + 1 - len(out))
            if len(out) > limit:
                raise _too_large(limit)
            position += len(piece) - len(stream.unused_data)
    return bytes(out)


def _gzip(data: bytes, limit: int) -> bytes:
    if not data:
        raise ValueError("empty")
    return _inflate(data, limit, zlib.MAX_WBITS | 16)


def _deflate(data: bytes, limit: int) -> bytes:
    # The name means zlib (RFC 9110, 8.4.1.2), yet some services send the bare stream.
    try:
        return _inflate(data, limit, zlib.MAX_WBITS)
    except zlib.error:
        return _inflate(data, limit, -zlib.MAX_WBITS)


def _brotli(data: bytes, limit: int) -> bytes:
    import brotli

    stream = brotli.Decompressor()
    out: bytes = stream.process(data, output_buffer_limit=limit + 1)
    while len(out) <= limit and not stream.can_accept_more_data():
        out += stream.process(b"", output_buffer_limit=limit + 1 - len(out))
    if len(out) > limit:
        raise _too_large(limit)
    if not stream.is_finished():
        raise ValueError("truncated")
    return out


def unzstd(data: bytes, limit: int) -> bytes:
    """Decompress one zstd frame.

    Raises:
        DecodeError: the frame says that it holds more than `limit` bytes.
        zstandard.ZstdError: broken data, data behind the frame, or more than `limit` bytes.
    """
    size = zstandard.frame_content_size(data)
    if size > limit:
        raise _too_large(limit)
    try:
        zstd = _local.zstd
    except AttributeError:
        zstd = _local.zstd = zstandard.ZstdDecompressor()  # one shared by threads crashes them
    out: bytes = zstd.decompress(data, max_output_size=limit, allow_extra_data=False)
    if size < 0:  # then it has not looked behind the frame
        frame = zstd.decompressobj()
        frame.decompress(data)
        if frame.unused_data:
            raise zstandard.ZstdError("data behind the frame")
    return out


def _too_large(limit: int) -> DecodeError:
    return DecodeError(f"unpacks to more than {limit} bytes")


_UNDO = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _brotli, "zstd": unzstd}
