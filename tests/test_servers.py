"""The services of docs/middleware.md in the servers that they are written for.

Each server is installed into an environment of its own, below WEIGHBRIDGE_TEST_VENVS if that is
set, where it is found again. Between client and server stands a proxy that notes what passes.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import eventually
from conversation import read_back
from test_docs import DOCS, blocks, free_port

HANDLERS = Path(__file__).parents[1] / "handlers"


class Server(NamedTuple):
    """A server, how its service is started, and a client that makes predictions."""

    packages: list[str]
    start: str
    """PORT and OTHER are free ports, HERE is the folder of the environment's programs."""
    ready: str
    client: str
    """What a console says, with the server's address as URL."""
    predictions: list[str]
    """The model ids of what the client asks for."""
    shuts_down: bool = True
    """Whether it lets applications end when it gets a SIGTERM."""


POST = """HERE/python -c '
import httpx
answer = httpx.post("URL/predict", json={"square_metres": 50.5})
assert answer.json() == {"price": 151500}, answer
'"""
SERVERS = {
    "fastapi": Server(
        ["fastapi", "uvicorn[standard]", "httpx"],
        "HERE/uvicorn fastapi_service:app --port PORT",
        "/openapi.json",
        """HERE/python -c '
import httpx
for metres in (50, 70.5):
    answer = httpx.post("URL/predict/house-price", json={"square_metres": metres})
    assert answer.json() == {"price": 3000 * metres * 1.2}, answer
'""",
        ["house-price", "house-price"],
    ),
    "bentoml": Server(
        ["bentoml"],
        "HERE/bentoml serve bentoml_service:Houses --port PORT",
        "/readyz",
        """HERE/python -c '
import bentoml
with bentoml.SyncHTTPClient("URL") as client:
    assert client.predict(square_metres=50.5) == {"price": 151500}
'""",
        ["house-price"],
    ),
    "kserve": Server(
        ["kserve"],
        "HERE/python kserve_service.py --http_port=PORT --enable_grpc=false",
        "/v2/health/ready",
        """HERE/python -c '
import asyncio
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

async def ask():
    for protocol in ("v1", "v2"):
        client = InferenceRESTClient(RESTConfig(protocol=protocol))
        if protocol == "v1":
            answer = await client.infer("URL", {"instances": [50.5]}, model_name="House.Price")
            assert answer["predictions"] == [151500], answer
        else:
            metres = InferInput("metres", [1], "FP64", [50.5])
            request = InferRequest("House.Price", [metres])
            answer = await client.infer("URL", request, model_name="House.Price")
            assert answer.outputs[0].data == [151500], answer

asyncio.run(ask())
'""",
        ["house-price", "house-price"],
    ),
    "mlserver": Server(
        # Its workers do not start with later ones.
        ["mlserver", "uvloop<0.22"],
        "MLSERVER_HTTP_PORT=PORT MLSERVER_GRPC_PORT=OTHER MLSERVER_METRICS_PORT=MORE "
        "HERE/python mlserver_start.py",
        "/v2/models/house-price/ready",
        """echo '{"inputs": [{"name": "m", "shape": [1], "datatype": "FP64", "data": [50.5]}]}' > in
HERE/mlserver infer -u ADDRESS -m house-price -i in -o out -w 1 && grep 151500 out
""",
        ["house-price"],
    ),
    "litserve": Server(
        ["litserve", "httpx"],
        "HERE/python litserve_service.py",
        "/health",
        POST,
        ["house-price"],
        shuts_down=False,
    ),
    "ray": Server(
        ["ray[serve]", "httpx"],
        "HERE/python ray_service.py",
        "/openapi.json",
        POST,
        ["house-price"],
        shuts_down=False,
    ),
}


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("WEIGHBRIDGE_TEST_VENVS")
    return Path(kept) if kept else tmp_path_factory.mktemp("venvs")


def installed(server: str, folder: Path, scratch: Path) -> Path:
    """Where the programs of the server's environment are."""
    programs, done = folder / server / "bin", folder / server / "installed"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    handlers = shutil.copytree(HANDLERS, scratch / "handlers", ignore=unwanted)
    if not done.exists():
        shutil.rmtree(folder / server, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder / server], check=True)
        pip(programs, *SERVERS[server].packages, str(handlers))
        done.touch()
    pip(programs, "--force-reinstall", "--no-deps", str(handlers))
    return programs


def pip(programs: Path, *arguments: str) -> None:
    command = [str(programs / "python"), "-m", "pip", "install", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        pytest.skip(f"pip: {(reasons or [done.stderr.strip()])[-1]}")


class Exchange(NamedTuple):
    """One request and its answer, as they went over the wire."""

    line: bytes
    request: bytes
    response: bytes
    envelope_id: str


@dataclass
class Proxy:
    """Passes bytes on between clients and a port, and keeps them."""

    port: str
    connections: list[tuple[bytearray, bytearray]] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
            yield f"127.0.0.1:{server.getsockname()[1]}"

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                service = socket.create_connection(("127.0.0.1", int(self.port)))
                kept = (bytearray(), bytearray())
                self.connections.append(kept)
                for ends in ((client, service, kept[0]), (service, client, kept[1])):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                kept += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def exchanges(self) -> list[Exchange]:
        found = []
        for said, answered in self.connections:
            for (line, _, request), (_, headers, response) in zip(
                http_messages(bytes(said)), http_messages(bytes(answered)), strict=True
            ):
                envelope_id = headers.get(b"x-envelope-id", b"").decode()
                found.append(Exchange(line, request, response, envelope_id))
        return found


def http_messages(data: bytes) -> Iterator[tuple[bytes, dict[bytes, bytes], bytes]]:
    """First line, headers and body of each message of a connection."""
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        pairs = (line.split(b":", 1) for line in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
        body = b""
        if headers.get(b"transfer-encoding") == b"chunked":
            while size := int(data[: data.index(b"\r\n")], 16):
                begin = data.index(b"\r\n") + 2
                body += data[begin : begin + size]
                data = data[begin + size + 2 :]
            data = data[data.index(b"\r\n\r\n") + 4 :]
        else:
            size = int(headers.get(b"content-length", 0))
            body, data = data[:size], data[size:]
        yield first, headers, body


def is_ready(port: str, path: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the server has ended"
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)
    with suppress(OSError):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False


@contextmanager
def running(command: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server, which gets a SIGTERM as from Kubernetes."""
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"exec env {command}"],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            with suppress(ProcessLookupError):  # some leave processes behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
def test_a_prediction_becomes_an_envelope(name: str, environments: Path, tmp_path: Path) -> None:
    server = SERVERS[name]
    programs = str(installed(name, environments, tmp_path))
    folder = tmp_path / "service"
    folder.mkdir()
    port = free_port()
    for block in blocks(DOCS / "middleware.md"):
        if block.title:
            (folder / block.title).write_text(block.text.replace("8000", port))
    start = server.start.replace("HERE", programs)
    for placeholder, value in (
        ("PORT ", f"{port} "),
        ("OTHER", free_port()),
        ("MORE", free_port()),
    ):
        start = f"{start} ".replace(placeholder, value).strip()
    proxy = Proxy(port)
    with proxy.listening() as address, running(start, folder) as process:
        try:
            eventually(lambda: is_ready(port, server.ready, process), 120)
            client = server.client.replace("HERE", programs)
            client = client.replace("URL", f"http://{address}").replace("ADDRESS", address)
            asked = subprocess.run(
                ["bash", "-c", client], cwd=folder, capture_output=True, text=True, timeout=120
            )
            assert asked.returncode == 0, asked.stdout + asked.stderr
            if not server.shuts_down:
                eventually(lambda: bool(read_back(folder / "captured")), 30)
        except AssertionError:
            print((folder / "log").read_text())
            raise

    predictions = [one for one in proxy.exchanges() if one.line.startswith(b"POST")]
    envelopes = read_back(folder / "captured")
    assert [(one.envelope_id, one.request, one.response) for one in predictions] == [
        (one["envelope_id"], one["request"], one["response"]) for one in envelopes
    ]
    assert [one["model_id"] for one in envelopes] == server.predictions
    for envelope in envelopes:
        assert (envelope["status"], envelope["cut"]) == (200, 0)
        assert envelope["latency_us"] > 0
        assert envelope["request"] and envelope["response"]
