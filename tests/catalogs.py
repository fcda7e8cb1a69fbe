"""Catalog servers and object stores for tests, each a real one in a process of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from google_emulators import NotInstalled
from support import Home, environment

from pipelines.address import Address
from pipelines.catalog import CatalogAddress
from pipelines.tables import Tables

BUCKET = "warehouse"
_POM = Path(__file__).with_name("rest_catalog") / "pom.xml"
_START_SECONDS = 60.0


class InCatalog(Home):
    """A home whose tables are in a catalog elsewhere."""

    def __init__(self, folder: Path, uri: str, warehouse: str, home: str = "") -> None:
        super().__init__(folder)
        self.where: Any = Address(home) if home else self.folder
        self.address = CatalogAddress(uri, warehouse)

    def arguments(self, *more: str, files: str | None = None) -> list[str]:
        place = ["--catalog_uri", self.address.uri, "--warehouse", self.address.warehouse]
        return super().arguments("--home", str(self.where), *place, *more, files=files)

    def tables(self) -> Tables:
        return Tables(self.where, self.address)

    def rows(self, table: str, namespace: str = "models") -> list[dict[str, Any]]:
        found = self.tables().load(f"{namespace}.{table}").scan().to_arrow().to_pylist()
        return sorted(found, key=lambda row: row["row_id"])


@contextmanager
def rest_server(folder: Path, **settings: str) -> Iterator[str]:
    """Apache Iceberg's REST catalog, which keeps its state in SQLite; its address.

    Args:
        folder: where it does.
        settings: of the server's catalog, such as CATALOG_IO__IMPL.

    Raises:
        NotInstalled: Java, Maven or what Maven gets is not there.
    """
    jars, port = _jars(), free_port()
    own = {
        "CATALOG_URI": f"jdbc:sqlite:{folder}/rest.db",
        "CATALOG_WAREHOUSE": f"file://{folder}/warehouse",
        "CATALOG_REST_PORT": str(port),
        **settings,
    }
    java = ["java", "-Xmx256m", "-cp", f"{jars}/*", "org.apache.iceberg.rest.RESTCatalogServer"]
    with _process(java, folder / "rest.log", port, **own):
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """PostgreSQL with a password; the address of its database, without it.

    It refuses to run as root, and is run as `nobody` then.

    Raises:
        NotInstalled: it is not, or its driver is not.
    """
    programs = [*Path("/usr/lib/postgresql").glob("*/bin"), Path("/usr/bin")]
    found = [path for path in programs if (path / "initdb").exists()]
    if not found:
        raise NotInstalled("PostgreSQL is not installed: apt-get install postgresql")
    with suppress(ImportError):
        import psycopg  # noqa: F401
    if "psycopg" not in sys.modules:
        raise NotInstalled("psycopg is not installed: pip install -e '.[test]'")
    data, password, port = folder / "data", folder / "password", free_port()
    password.write_text("sesame")
    user: dict[str, Any] = {}
    if getpass.getuser() == "root":
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        for path in (folder, password):
            shutil.chown(path, "nobody")
    initdb = [found[0] / "initdb", "-D", data, "-U", "scales", "--pwfile", password]
    options = ["--auth=scram-sha-256", "--no-sync", "--no-locale", "-E", "UTF8"]
    subprocess.run([*initdb, *options], check=True, capture_output=True, cwd=folder, **user)
    # By the machine's name, too: a launch refuses addresses that only mean this machine.
    with open(data / "pg_hba.conf", "a") as rules:
        rules.write("host all all samehost scram-sha-256\nhost all all 127.0.0.0/8 scram-sha-256\n")
    own = f"listen_addresses=127.0.0.1,{socket.gethostname()}"
    server = [found[0] / "postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "fsync=off"]
    command = [*map(str, server), "-c", own, "-c", "max_connections=200"]
    with (
        _process(command, folder / "postgres.log", port, user=user, cwd=folder),
        environment(PGPASSWORD="sesame"),
    ):
        uri = f"postgresql://scales@127.0.0.1:{port}/postgres"
        _wait(lambda: _answers(uri))
        yield uri


@contextmanager
def storage_emulator(folder: Path) -> Iterator[str]:
    """Google's storage as `gcp-storage-emulator` shows it; the address of a bucket."""
    port = free_port()
    start = ["start", "-q", "--host", "127.0.0.1", "--port", str(port)]
    module = [sys.executable, "-m", "gcp_storage_emulator", "--data-dir", str(folder)]
    command = [*module, *start, "--default-bucket", BUCKET]
    with (
        _process(command, folder / "storage.log", port),
        environment(STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{port}"),
    ):
        yield f"gs://{BUCKET}"


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Amazon's S3 as `moto` shows it; the address of a bucket."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    endpoint = f"http://127.0.0.1:{port}"
    names = ("ENDPOINT", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION")
    values = (endpoint, "anybody", "anything", "us-east-1")
    settings = {f"PYICEBERG_CATALOG__WEIGHBRIDGE__S3__{n}": v for n, v in zip(names, values)}
    with _process(command, folder / "s3.log", port), environment(**settings):
        request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        yield f"s3://{BUCKET}"


@contextmanager
def answering_server(status: int) -> Iterator[str]:
    """A server that answers everything with one status; its address."""

    class Handler(_Answering):
        code = status

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class _Answering(BaseHTTPRequestHandler):
    code: int

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b"<Error><Code>AccessDenied</Code></Error>"
        self.send_response(self.code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_DELETE = do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        pass


class Wire:
    """A port that leads to another one, and is cut where the client says a word.

    Args:
        port: where it leads.

    Attributes:
        port: its own.
        cuts: how often it was cut.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._word = b""
        self._answered = False
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, word: bytes, answered: bool) -> None:
        """Cut the next connection that says a word: before it arrives, or after its answer came."""
        self._word, self._answered = word, answered

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._ask, args=(client, server), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        answering = threading.Event()
        answering.set()
        threading.Thread(target=_answer, args=(client, server, answering), daemon=True).start()
        with suppress(OSError), closing(client), closing(server):
            while data := client.recv(1 << 20):
                if self._word and self._word in data:
                    self._word = b""
                    self.cuts += 1
                    if self._answered:
                        answering.clear()
                        server.sendall(data)
                        _wait(answering.is_set)
                    for end in (client, server):
                        end.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(data)


def _answer(client: socket.socket, server: socket.socket, answering: threading.Event) -> None:
    with suppress(OSError):
        while data := server.recv(1 << 20):
            if not answering.is_set():
                answering.set()  # the answer is lost
                return
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _jars() -> Path:
    """The server's jars, once Maven got them; kept until the tests' file of them changes."""
    if not (shutil.which("java") and shutil.which("mvn")):
        raise NotInstalled("Java or Maven is not installed: apt-get install maven")
    jars = Path.home() / ".cache" / "weighbridge-tests" / f"rest-{hash_of(_POM)}"
    if not jars.exists():
        made = jars.with_name(f"{jars.name}.{os.getpid()}")
        got = ["mvn", "-B", "-q", "-f", str(_POM), "dependency:copy-dependencies"]
        done = subprocess.run([*got, f"-DoutputDirectory={made}"], capture_output=True, check=False)
        if done.returncode:
            raise NotInstalled("Maven did not get the REST catalog's jars")
        with suppress(OSError):  # another process of the tests was faster
            made.rename(jars)
    return jars


def hash_of(path: Path) -> str:
    from hashlib import blake2b

    return blake2b(path.read_bytes(), digest_size=6).hexdigest()


def _answers(uri: str) -> bool:
    import psycopg

    with suppress(psycopg.OperationalError):
        psycopg.connect(uri).close()
        return True
    return False


@contextmanager
def _process(
    command: list[str],
    log: Path,
    port: int,
    user: dict[str, Any] | None = None,
    cwd: Path | None = None,
    **settings: str,
) -> Iterator[None]:
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            env={**os.environ, **settings},
            cwd=cwd,
            **(user or {}),
        )
    try:
        _wait(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, log.read_text()[-2000:]
        yield
    finally:
        process.send_signal(signal.SIGINT)  # on SIGTERM PostgreSQL would wait for us to leave
        process.wait()


def _listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        threading.Event().wait(0.02)
