"""A body as it passes, chunk by chunk."""

from __future__ import annotations

from typing import Any


class Body:
    """The bytes of several chunks, up to a limit. A body of one chunk is just that."""

    __slots__ = ("_bytes", "_room", "cut", "seen")

    def __init__(self, limit: int) -> None:
        self._bytes: bytes | bytearray = b""
        self._room = limit
        self.seen = 0
        self.cut = False

    def add(self, chunk: Any) -> None:
        """Keep a chunk, or as much of it as there is room for."""
        if type(chunk) is not bytes:
            try:
                chunk = memoryview(chunk).tobytes()
            except TypeError:
                self.cut = True
                raise
        size = len(chunk)
        self.seen += size
        if size > self._room:
            self.cut = True
            chunk = chunk[: self._room]
        self._room -= len(chunk)
        if not self._bytes:
            self._bytes = chunk  # most bodies are one chunk, and are not copied
        elif chunk:
            if type(self._bytes) is bytes:
                self._bytes = bytearray(self._bytes)
            self._bytes += chunk

    def take(self) -> bytes:
        """What was kept; it is not kept any longer."""
        kept, self._bytes = self._bytes, b""
        return kept if type(kept) is bytes else bytes(kept)


def seen(body: bytes | Body) -> int:
    """How many bytes of it have passed, kept or not."""
    return body.seen if isinstance(body, Body) else len(body)


def taken(body: bytes | Body) -> bytes:
    """What was kept of it."""
    return body.take() if isinstance(body, Body) else body
