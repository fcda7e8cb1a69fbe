"""A keep-alive HTTP client for the demo's traffic: an order of magnitude less work than httpx."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

TIMEOUT_SECONDS = 30.0


class Connection:
    """One connection to the service; requests on it go one after the other."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    async def post(self, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """The body of the answer.

        Raises:
            RuntimeError: the answer is no success.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{lines}\r\n"
        )
        self._writer.write(head.encode() + body)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            status, *fields = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            length = next(f for f in fields if f.startswith(b"content-length:"))
            answer = await self._reader.readexactly(int(length.partition(b":")[2]))
        if status.split()[1][:1] != b"2":
            raise RuntimeError(f"the demo's service answered {status.decode()} to {path}")
        return answer
