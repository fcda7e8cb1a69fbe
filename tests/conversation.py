"""One exchange with an ASGI app, with every message that passed, and the envelopes it left."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weighbridge import EnvelopePublisher
from weighbridge.archive import read_archive
from weighbridge.wire import ARRAYS, BATCH_CONTENT, unpack

Message = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]
GONE = {"type": "http.disconnect"}


def scope(
    path: str = "/v1/models/m:predict",
    method: str = "POST",
    headers: Iterable[tuple[bytes, bytes]] = (),
    **more: Any,
) -> dict[str, Any]:
    """The scope of a request as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "headers": list(headers),
        **more,
    }


def body(data: bytes = b"", more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def chunk(data: bytes = b"", more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def answering(*messages: Message, read: bool = True) -> App:
    """An app that reads the whole body, and sends these."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while read and (await receive()).get("more_body"):
            pass
        for message in messages:
            await send(message)

    return app


@dataclass
class Conversation:
    """What passed between a server and an app."""

    incoming: Iterable[Message] = (body(b"in"),)
    send_fails: Callable[[Message], BaseException | None] = lambda message: None
    sent: list[Message] = field(default_factory=list)
    raised: BaseException | None = None

    def hold(self, app: App, of: dict[str, Any]) -> Conversation:
        """Let the app answer; the client is gone when there is nothing more to receive."""
        waiting = deque(self.incoming)

        async def receive() -> Message:
            return waiting.popleft() if waiting else GONE

        async def send(message: Message) -> None:
            if (error := self.send_fails(message)) is not None:
                raise error
            self.sent.append(message)
            await asyncio.sleep(0)  # servers that wait for a slow client let others run here

        async def talk() -> None:
            try:
                await app(of, receive, send)
            except BaseException as error:
                self.raised = error

        asyncio.run(talk())
        return self


class Recorder:
    """A publisher into a folder, and what it wrote there."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.publisher = EnvelopePublisher(str(folder), **settings)

    def envelopes(self) -> list[dict[str, Any]]:
        """Each envelope that was captured, in their order; nothing was dropped."""
        self.publisher.close()
        assert self.publisher.stats()["dropped"] == {}
        return read_back(self.folder)

    def envelope(self) -> dict[str, Any]:
        [envelope] = self.envelopes()
        return envelope


def read_back(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in folder.glob("*.avro"):
        with open(path, "rb") as stream:
            for message in read_archive(stream):
                if message.attributes["content"] == BATCH_CONTENT:
                    batch = unpack(message.attributes, message.data)
                    once = {name: value for name, value in batch.items() if name not in ARRAYS}
                    for values in zip(*(batch[name] for name in ARRAYS)):
                        found.append(_envelope({**once, **dict(zip(ARRAYS, values))}))
    return sorted(found, key=lambda one: int(one["envelope_id"].rpartition("-")[2]))


def _envelope(raw: dict[str, Any]) -> dict[str, Any]:
    sequence = raw["first_sequence"] + raw["sequence_offset"]
    return {
        **raw,
        "envelope_id": f"{raw['publisher_id']}-{sequence}",
        "headers": json.loads(raw["headers"]),
        "attributes": json.loads(raw["attributes"]),
        "context": None if raw["context"] is None else json.loads(raw["context"]),
    }
