"""An HTTP server that takes whatever it is sent, and says 200: for clients without a service."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class _Taker(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            _, _, rest = self._received[:end].lower().partition(b"content-length:")
            whole = end + 4 + int(rest.split(b"\r\n")[0] or b"0")
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            self._transport.write(_ANSWER)


def serve(connection: Connection) -> None:
    """Run it, and say its port; until it is killed."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Taker, "127.0.0.1", 0)
        connection.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())
