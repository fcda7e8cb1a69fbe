"""The middleware under a real server, in a real framework."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from conftest import eventually
from conversation import Recorder, read_back
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from test_docs import free_port

from weighbridge import CaptureMiddleware, attach
from weighbridge.model_of import from_path
from weighbridge.wire import CUT_REQUEST, CUT_RESPONSE

BIG = bytes(range(256)) * 2000
more = threading.Event()
"""Set by the client of a stream when it has what was sent first."""


async def parts(first: bytes, last: bytes) -> AsyncIterator[bytes]:
    yield first
    while not more.is_set():
        await asyncio.sleep(0.001)
    yield last


async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/json")


async def stream(request: Request) -> Response:
    await request.body()
    return StreamingResponse(parts(b"first", b"last"), media_type="text/plain")


async def events(request: Request) -> Response:
    return StreamingResponse(parts(b"data: 1\n\n", b"data: 2\n\n"), media_type="text/event-stream")


async def endless(request: Request) -> Response:
    await request.body()

    async def ticks() -> AsyncIterator[bytes]:
        while True:
            yield b"tick"
            await asyncio.sleep(0.001)

    return StreamingResponse(ticks(), media_type="text/plain")


async def fail(request: Request) -> Response:
    await request.body()
    raise RuntimeError("a payload")


def in_a_thread(request: Request) -> Response:
    attach(path=request.url.path)
    return JSONResponse({"answer": 42})


async def without_reading(request: Request) -> Response:
    return Response(b"no", status_code=413)


HANDLERS = [echo, stream, events, endless, fail, in_a_thread, without_reading]


class Passing(BaseHTTPMiddleware):
    """Starlette's helper runs the app in a task of its own."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response


def service(*middleware: Middleware) -> Starlette:
    routes = [Route(f"/{one.__name__}/{{model}}", one, methods=["POST"]) for one in HANDLERS]
    return Starlette(routes=routes, middleware=list(middleware))


@contextmanager
def served(app: Any) -> Iterator[Callable[[], socket.socket]]:
    """Run the app, and give what connects to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, http="httptools", loop="asyncio", log_level="critical")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        eventually(lambda: server.started)
        try:
            yield lambda: socket.create_connection(listening.getsockname(), timeout=10)
        finally:
            more.set()
            server.should_exit = True
            thread.join(20)
            more.clear()


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@pytest.fixture(params=["alone", "outside", "inside"])
def connect(
    request: pytest.FixtureRequest, recorder: Recorder
) -> Iterator[Callable[[], socket.socket]]:
    """Connects to the service; another middleware may stand inside or outside of ours."""
    ours = Middleware(
        CaptureMiddleware, publisher=recorder.publisher, model=from_path("/{handler}/{model}")
    )
    other = Middleware(Passing)
    stacks = {"alone": [ours], "outside": [ours, other], "inside": [other, ours]}
    with served(service(*stacks[request.param])) as connect:
        yield connect


def head(path: str, method: str = "POST", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers, "", ""]
    return "\r\n".join(lines).encode()


def post(path: str, data: bytes, *headers: str) -> bytes:
    return head(path, "POST", f"Content-Length: {len(data)}", *headers) + data


def until(client: socket.socket, ending: bytes) -> bytes:
    received = b""
    while not received.endswith(ending):
        piece = client.recv(1 << 16)
        assert piece, received
        received += piece
    return received


def rest(client: socket.socket) -> bytes:
    received = b""
    while piece := client.recv(1 << 16):
        received += piece
    return received


def recorded(recorder: Recorder) -> dict[str, Any]:
    """The one envelope; it is captured a moment after the client has the answer."""
    eventually(lambda: recorder.publisher.stats()["served"] == 1)
    return recorder.envelope()


CLOSE = "Connection: close"


def test_a_request_and_its_answer(connect: Callable[[], socket.socket], recorder: Recorder) -> None:
    with connect() as client:
        client.sendall(post("/echo/M", BIG, CLOSE, "X-Request-Id: r-1"))
        answer = rest(client)
    assert answer.endswith(BIG)
    envelope = recorded(recorder)
    assert envelope["request"] == envelope["response"] == BIG
    assert f"x-envelope-id: {envelope['envelope_id']}\r\n".encode() in answer
    assert (envelope["model_id"], envelope["status"], envelope["cut"]) == ("m", 200, 0)
    assert envelope["attributes"] == {"model-name": "M", "x-request-id": "r-1"}
    assert envelope["response_type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "first", "last"),
    [("/stream/m", b"first", b"last"), ("/events/m", b"data: 1\n\n", b"data: 2\n\n")],
)
def test_a_stream_is_not_held_up(
    connect: Callable[[], socket.socket], recorder: Recorder, path: str, first: bytes, last: bytes
) -> None:
    with connect() as client:
        client.sendall(post(path, b"in", CLOSE))
        until(client, first + b"\r\n")  # the app waits for this one before it sends the other
        assert recorder.publisher.stats()["served"] == 0
        more.set()
        assert rest(client).endswith(b"\r\n" + last + b"\r\n0\r\n\r\n")
    envelope = recorded(recorder)
    assert (envelope["response"], envelope["status"]) == (first + last, 200)
    assert (envelope["cut"], envelope["attributes"]) == (0, {})


def test_a_client_that_goes_in_the_middle_of_the_answer(
    connect: Callable[[], socket.socket], recorder: Recorder
) -> None:
    with connect() as client:
        client.sendall(post("/endless/m", b"in"))
        until(client, b"tick\r\n")
    envelope = recorded(recorder)
    assert re.fullmatch(b"(tick)+", envelope["response"])
    assert (envelope["request"], envelope["cut"]) == (b"in", CUT_RESPONSE)
    assert (envelope["status"], envelope["attributes"]) == (499, {"disconnected": "response"})


def test_a_client_that_goes_in_the_middle_of_the_request(
    connect: Callable[[], socket.socket], recorder: Recorder
) -> None:
    with connect() as client:
        client.sendall(post("/echo/m", b"12345")[:-2])
    envelope = recorded(recorder)
    assert (envelope["request"], envelope["cut"] & CUT_REQUEST) == (b"123", CUT_REQUEST)
    assert (envelope["status"], envelope["attributes"]) == (499, {"disconnected": "request"})


def test_a_handler_that_raises(connect: Callable[[], socket.socket], recorder: Recorder) -> None:
    with connect() as client:
        client.sendall(post("/fail/m", b"in", CLOSE))
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.endswith(b"Internal Server Error")
    envelope = recorded(recorder)
    assert (envelope["request"], envelope["response"]) == (b"in", None)
    assert (envelope["status"], envelope["attributes"]) == (500, {"error": "RuntimeError"})


def test_a_handler_in_a_thread_attaches(
    connect: Callable[[], socket.socket], recorder: Recorder
) -> None:
    with connect() as client:
        client.sendall(post("/in_a_thread/m", b"", CLOSE))
        rest(client)
    assert recorded(recorder)["context"] == {"path": "/in_a_thread/m"}


def test_a_handler_that_does_not_read(
    connect: Callable[[], socket.socket], recorder: Recorder
) -> None:
    with connect() as client:
        client.sendall(post("/without_reading/m", b"in")[:-1])
        until(client, b"no")
    envelope = recorded(recorder)
    assert (envelope["status"], envelope["response"]) == (413, b"no")
    assert envelope["cut"] == CUT_REQUEST


SERVICE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from weighbridge import CaptureMiddleware, EnvelopePublisher

app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("out"), methods=["POST"])])
app.add_middleware(CaptureMiddleware, publisher=EnvelopePublisher("captured"), model="m")
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sigterm_loses_nothing(tmp_path: Path, workers: int) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", port]
    process = subprocess.Popen(
        [*command, "--workers", str(workers)], cwd=tmp_path, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as client:
                client.sendall(head("/", "POST", "Content-Length: 0", CLOSE))
                return rest(client).endswith(b"out")
        except ConnectionRefusedError:
            return False

    try:
        eventually(answers, 60)
        assert all(answers() for _ in range(20))
    finally:
        process.terminate()
        process.wait(20)
    found = read_back(tmp_path / "captured")
    assert len({one["envelope_id"] for one in found}) == 21


CONVERSATIONS = [
    [post("/echo/m", b"1"), post("/echo/m", b"2", CLOSE)],
    [head("/echo/m", "HEAD", CLOSE)],
    [head("/echo/m", "OPTIONS", CLOSE)],
    [head("/echo/m", "GET", CLOSE)],
    [post("/nowhere", b"in", CLOSE)],
    [head("/echo/m", "POST", "Transfer-Encoding: chunked", CLOSE) + b"2\r\nin\r\n0\r\n\r\n"],
    [head("/echo/m", "POST", "Transfer-Encoding: chunked", CLOSE) + b"zz\r\n"],
    [post("/fail/m", b"in")],
    [b"POST /echo/m HTTP/1.0\r\nContent-Length: 2\r\n\r\nin"],
    [b"nonsense\r\n\r\n"],
    [post("/echo/%00%ff", b"in", CLOSE, "X-Request-Id: \xe9")],
]


@pytest.mark.parametrize("said", CONVERSATIONS)
def test_the_bytes_on_the_wire_are_the_same(recorder: Recorder, said: list[bytes]) -> None:
    heard = []
    ours = Middleware(CaptureMiddleware, publisher=recorder.publisher, model="m")
    for stack in ([], [ours]):
        with served(service(*stack)) as connect, connect() as client:
            for data in said:
                client.sendall(data)
            heard.append(re.sub(rb"\r\ndate: [^\r]+", b"", rest(client)))
    assert heard[0]
    assert re.sub(rb"\r\nx-envelope-id: [0-9a-f]{16}-\d+", b"", heard[1]) == heard[0]
    recorder.publisher.close()
    assert json.dumps(recorder.publisher.stats()["dropped"]) == "{}"
