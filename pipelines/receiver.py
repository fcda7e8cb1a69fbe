"""A local stand-in for Arize: takes the real SDK's batch uploads and keeps what it got.

The tests and the demo push to it. It can be told to fail the ways Arize and the network fail.
"""

import json
import signal
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from pipelines.ingestion import MAX_BODY_BYTES, Ingestion
from pipelines.uploads import MALFORMED, SPACE_KEY, Upload, UploadFolder, protobuf, read_upload

_UPLOAD_PATH = "/v1/pandas_arrow"


@dataclass(frozen=True)
class Fault:
    """How one upload goes wrong; the default answers 503 and keeps nothing.

    Attributes:
        status: What to answer; by default 200 when the rows are kept, else 503.
        body: The body of that answer; by default one that fits the status.
        headers: Headers to add to it, such as Retry-After or Location.
        hang: Seconds to wait before answering, cut short when the receiver closes.
        reset: Reset the connection instead of answering.
        keep: Take the upload first, so that the sender cannot know that it arrived. One that
            the receiver refuses is refused as usual.
    """

    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0.0
    reset: bool = False
    keep: bool = False


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ArizeReceiver:
    """An HTTP server on 127.0.0.1 that speaks Arize's batch protocol, running once constructed.

    Args:
        api_key: The only key to accept; by default any.
        space_id: The only space to accept; by default any.
        port: The port to listen on; 0 takes a free one.
        folder: Where to keep the uploads, and to find earlier ones; by default only in memory.
        max_bytes: The largest body to take; a larger one is answered with 413.
    """

    def __init__(
        self,
        api_key: str | None = None,
        space_id: str | None = None,
        *,
        port: int = 0,
        folder: Path | str | None = None,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        protobuf()  # imports for a second, which would exceed the first sender's timeout
        self._api_key = api_key
        self._space_id = space_id
        self._folder = None if folder is None else UploadFolder(Path(folder))
        self._uploads = [] if self._folder is None else self._folder.load()
        self.max_bytes = max_bytes
        self._ingestion = Ingestion()
        for upload in self._uploads:
            self._ingestion.check(upload)
        self._faults: deque[Fault] = deque()
        self._requests = 0
        self._lock = threading.Lock()
        self._server = _Server(port, self)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, cut hangs short and wait for the requests under way."""
        self._server.hanging.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def uploads(self) -> list[Upload]:
        """The uploads kept so far, in the order of their arrival."""
        with self._lock:
            return list(self._uploads)

    @property
    def requests(self) -> int:
        """How many uploads were tried, whatever came of them."""
        with self._lock:
            return self._requests

    def rows(self, model_id: str) -> pa.Table:
        """Return all rows of a model; a column's type is the common one of its uploads.

        Raises:
            pa.ArrowTypeError: If there is none, as for text and numbers.
        """
        # The metadata describes one upload, and the SDK orders columns at random.
        tables = [
            upload.table.replace_schema_metadata(None)
            for upload in self.uploads
            if upload.model_id == model_id
        ]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})

    def fail(self, fault: Fault, times: int = 1) -> None:
        """Let the next uploads go wrong, after those that were already told to."""
        with self._lock:
            self._faults.extend([fault] * times)

    def release(self) -> None:
        """Cut short the hangs under way."""
        self._server.hanging.set()
        self._server.hanging = threading.Event()

    def heal(self) -> None:
        """Forget the faults that are still to come."""
        with self._lock:
            self._faults.clear()

    def _next_fault(self) -> Fault | None:
        with self._lock:
            self._requests += 1
            return self._faults.popleft() if self._faults else None

    def _take(self, headers: Message, body: bytes) -> None:
        if self._api_key is not None and headers.get("authorization") != self._api_key:
            raise _Refused(401, "wrong authorization")
        space_id = headers.get("arize-space-id", "")
        if self._space_id is not None and space_id != self._space_id:
            raise _Refused(403, "wrong arize-space-id")
        try:
            table = pa.ipc.open_stream(body).read_all()
            table.validate(full=True)
            sent = headers.get("number-of-rows", str(table.num_rows))
            if sent != str(table.num_rows):
                raise ValueError(f"number-of-rows is {sent}, the table has {table.num_rows}")
            metadata = {**(table.schema.metadata or {}), SPACE_KEY: space_id}
            upload = read_upload(table.replace_schema_metadata(metadata))
        except MALFORMED as error:
            raise _Refused(400, str(error)) from error
        # One lock over all, so that the files have the order of the list.
        with self._lock:
            try:
                self._ingestion.check(upload)
            except ValueError as error:
                raise _Refused(400, str(error)) from error
            if self._folder is not None:
                try:
                    self._folder.save(upload.table)
                except OSError as error:
                    raise _Refused(500, f"cannot keep the upload: {error}") from error
            self._uploads.append(upload)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() joins only those that are not
    request_queue_size = 128

    def __init__(self, port: int, receiver: ArizeReceiver) -> None:
        self.receiver = receiver
        self.hanging = threading.Event()
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A sender that went away, as after a timeout, is no error here.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10  # a silent sender holds up close() for no longer
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/":
            uploads = len(self.server.receiver.uploads)
            self._answer(200, json.dumps({"uploads": uploads}).encode())
        else:
            self._answer(404, _error(f"no such path: {self.path}"))

    def do_POST(self) -> None:
        receiver, fault = self.server.receiver, None
        try:
            if self.path != _UPLOAD_PATH:
                self._read_body()
                raise _Refused(404, f"no such path: {self.path}")
            fault = receiver._next_fault()
            content = self._read_body()
            if fault is None or fault.keep:
                receiver._take(self.headers, content)
        except _Refused as refusal:
            return self._answer(refusal.status, _error(str(refusal)))
        fault = fault or Fault(keep=True)
        self.server.hanging.wait(fault.hang)
        if fault.reset:
            return self._reset()
        status, body = fault.status or (200 if fault.keep else 503), fault.body
        if body is None:
            accepted = json.dumps({"realTimeIngestionUri": f"{receiver.url}/"}).encode()
            body = accepted if status == 200 else _error("told to fail")
        return self._answer(status, body, fault.headers)

    def _read_body(self) -> bytes:
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            raise _Refused(400, "a content-length is needed")  # the SDK sends a file, so has one
        if int(length) > self.server.receiver.max_bytes:
            for _ in range(int(length) >> 20):  # read, else the sender sees a broken connection
                self.rfile.read(1 << 20)
            self.rfile.read(int(length) % (1 << 20))
            raise _Refused(413, "the body is too large")
        content = self.rfile.read(int(length))
        if len(content) != int(length):
            raise _Refused(400, "the body is shorter than its content-length")
        return content

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        # Without lingering the kernel sends RST, but only once nobody holds the socket.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


def _error(reason: str) -> bytes:
    return json.dumps({"error": reason}).encode()


def serve(port: int, folder: Path | None, api_key: str | None, space_id: str | None) -> None:
    """Run a receiver in the foreground until SIGINT or SIGTERM."""
    # Background jobs of a shell ignore SIGINT, and containers are stopped with SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with ArizeReceiver(api_key, space_id, port=port, folder=folder) as receiver:
            print(f"Arize receiver: {receiver.url}")
            print(f"Pipeline flag:  --arize_url {receiver.url}")
            print(
                "SDK variables:  ARIZE_API_SCHEME=http ARIZE_API_HOST=127.0.0.1",
                f"ARIZE_API_PORT={receiver.port} ARIZE_API_KEY=<the --api_key, or any>",
                flush=True,
            )
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
