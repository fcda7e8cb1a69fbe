"""Publishers in servers and programs that fork: each envelope arrives once, whoever captured it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Emulator, eventually
from test_docs import free_port
from test_publisher import as_message, envelopes, stored

from weighbridge.destinations import CALL_SECONDS

SERVICE = """
import os
from weighbridge import CaptureMiddleware, EnvelopePublisher

publisher = EnvelopePublisher(os.environ["TOPIC"])
if "BEFORE" in os.environ:
    with open(os.environ["BEFORE"], "a") as ids:
        print(*(publisher.capture("flights", b"before", b"2") for _ in range(20)), file=ids)
    while os.environ["WAIT"] and publisher.stats()["queued"]:
        pass  # the parent uses gRPC when it forks

def wsgi(environ, start_response):
    envelope_id = publisher.capture("flights", environ["wsgi.input"].read(), b"2")
    start_response("200 OK", [("x-envelope-id", envelope_id), ("content-length", "1")])
    return [b"2"]

async def answer(scope, receive, send):
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{word}"
            await send({"type": f"lifespan.{word}.complete"})
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"2"})

asgi = CaptureMiddleware(answer, publisher, model="flights")
"""


@dataclass
class Clients:
    """They ask until they are told to stop, and note which envelopes were answered."""

    port: int
    answered: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            with suppress(OSError, http.client.HTTPException):
                for _ in range(20):
                    connection.request("POST", "/", b"1")
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status == 200:
                        self.answered.append(answer.headers["x-envelope-id"])
            connection.close()

    @contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.run) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def publishers(self) -> set[str]:
        return {one.rpartition("-")[0] for one in self.answered}


def children(pid: int) -> list[int]:
    """Those of a process, without multiprocessing's helper."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                command = (path.parent / "cmdline").read_bytes()
                found += [] if b"resource_tracker" in command else [int(path.parent.name)]
    return sorted(found)


def has_grpc(pid: int) -> bool:
    return "cygrpc" in Path(f"/proc/{pid}/maps").read_text()


def pulled(emulator: Emulator, subscription: str, ids: Sequence[str]) -> set[str]:
    """Ids of all that has arrived, each once, as soon as these are among them."""
    messages = [as_message(one) for one in emulator.pull(subscription, len(ids))]
    while not set(ids) <= set(envelopes(messages)):  # others were answered to nobody
        messages += [as_message(one) for one in emulator.pull(subscription, 1)]
    return set(envelopes(messages))


GUNICORN = "gunicorn --workers 2 --preload --graceful-timeout 10 --bind 127.0.0.1:PORT"
SERVERS = {
    "gunicorn": f"{GUNICORN} service:wsgi",
    "gunicorn with uvicorn": f"{GUNICORN} -k uvicorn.workers.UvicornWorker service:asgi",
    "uvicorn": "uvicorn --workers 2 --log-level warning --port PORT service:asgi",
    "uvicorn alone": "uvicorn --log-level warning --port PORT service:asgi",
}
CASES = [
    pytest.param("gunicorn", "at work", id="gunicorn, used before"),
    pytest.param("gunicorn with uvicorn", "", id="gunicorn with uvicorn"),
    pytest.param("gunicorn", "", id="gunicorn", marks=pytest.mark.slow),
    pytest.param("gunicorn", "idle", id="gunicorn, idle before", marks=pytest.mark.slow),
    pytest.param("gunicorn with uvicorn", "at work", id="both, before", marks=pytest.mark.slow),
    pytest.param("uvicorn", "", id="uvicorn", marks=pytest.mark.slow),
    pytest.param("uvicorn alone", "", id="uvicorn alone", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("server", "before"), CASES)
def test_servers_that_end_their_workers_under_load(
    tmp_path: Path, emulator: Emulator, server: str, before: str
) -> None:
    """What was answered has arrived, also from workers that got SIGTERM meanwhile."""
    topic, subscription = emulator.topic()
    (tmp_path / "service.py").write_text(SERVICE)
    environment = {**os.environ, "TOPIC": topic, "PUBSUB_EMULATOR_HOST": emulator.host}
    environment |= {"PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    if before:
        environment |= {"BEFORE": str(tmp_path / "ids"), "WAIT": "1" if before == "idle" else ""}
    port = free_port()
    command = SERVERS[server].replace("PORT", str(port)).split()
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, cwd=tmp_path, stdout=log, stderr=log
        )
    clients = Clients(port)
    workers = 1 if server == "uvicorn alone" else 2
    try:
        with clients.asking():
            eventually(lambda: len(clients.publishers()) == workers, 60)
            if workers == 2:
                assert before or not has_grpc(process.pid)
                os.kill(children(process.pid)[-1], signal.SIGTERM)
                eventually(lambda: len(clients.publishers()) == 3, 60)
            count = len(clients.answered)
            eventually(lambda: len(clients.answered) > count + 200)
            process.terminate()
            process.wait(30)
    finally:
        process.kill()
        process.wait()
    ids = clients.answered + ((tmp_path / "ids").read_text().split() if before else [])
    assert len(set(ids)) == len(ids)
    assert pulled(emulator, subscription, ids) >= set(ids), (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()


def ended(program: str, emulator: Emulator, *arguments: str) -> list[str]:
    """The ids that a program prints, which has to end well."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PUBSUB_EMULATOR_HOST": emulator.host, "GRPC_VERBOSITY": "NONE"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


IMPORTING = """
import os, sys
from weighbridge import EnvelopePublisher
publisher = EnvelopePublisher(sys.argv[1], linger=0)
print(publisher.capture("flights", b"parent", b"2"), flush=True)
while "google.api_core" not in sys.modules:
    pass
child = os.fork()
envelope_id = publisher.capture("flights", b"child" if child == 0 else b"parent", b"2")
os.write(1, f"{envelope_id}\\n".encode())  # at once: print may write the line in two parts
if child:
    os.waitpid(child, 0)
"""


def test_a_fork_while_grpc_is_imported(emulator: Emulator) -> None:
    """Else the child has half of it, and waits for a thread that only its parent has."""
    topic, subscription = emulator.topic()
    ids = ended(IMPORTING, emulator, topic)
    assert len(set(ids)) == 3
    assert pulled(emulator, subscription, ids) == set(ids)


PUBLISHING = """
import os, sys, threading
from weighbridge import EnvelopePublisher
publisher = EnvelopePublisher(sys.argv[1], linger=0)
def capture(count):
    return [publisher.capture("flights", os.urandom(9), b"2") for _ in range(count)]
def tell(ids):
    os.write(1, (" ".join(ids) + "\\n").encode())
stop, mine = threading.Event(), []
def work():
    while not stop.wait(0.002):
        mine.extend(capture(20))
thread = threading.Thread(target=work)
thread.start()
children = []
for number in range(int(sys.argv[2])):
    published = publisher.stats()["published"]
    while publisher.stats()["published"] == published:
        pass  # as it has just sent something, and goes on
    child = os.fork()
    if child == 0:
        assert publisher.stats()["served"] == 0
        tell(capture(10))
        sys.exit()
    children.append(child)
stop.set()
thread.join()
for child in children:
    assert os.waitpid(child, 0)[1] == 0
publisher.close()
tell(mine)
"""


@pytest.mark.parametrize("forks", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_forks_of_a_process_that_publishes(emulator: Emulator, forks: int) -> None:
    topic, subscription = emulator.topic()
    ids = ended(PUBLISHING, emulator, topic, str(forks))
    assert len(set(ids)) == len(ids) > 10 * forks
    assert len({one.rpartition("-")[0] for one in ids}) == forks + 1
    assert pulled(emulator, subscription, ids) == set(ids)


MULTIPROCESSING = """
import multiprocessing, os, sys
from weighbridge import EnvelopePublisher

publisher = EnvelopePublisher(sys.argv[1])

def tell(count):
    ids = [publisher.capture("flights", b"1", b"2") for _ in range(count)]
    os.write(1, (" ".join(ids) + "\\n").encode())

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    tell(5)
    processes = [multiprocessing.Process(target=tell, args=(5,)) for _ in range(2)]
    for process in processes:
        process.start()
    pool = multiprocessing.Pool(2)
    pool.map(tell, [5] * 10, chunksize=1)
    pool.close()  # and not a `with`, which kills its workers
    pool.join()
    for process in processes:
        process.join()
"""


@pytest.mark.parametrize(
    "method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)]
)
def test_multiprocessing(tmp_path: Path, emulator: Emulator, method: str) -> None:
    topic, subscription = emulator.topic()
    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, str(program), topic, method],
        env={**os.environ, "PUBSUB_EMULATOR_HOST": emulator.host, "GRPC_VERBOSITY": "NONE"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    ids = done.stdout.split()
    assert len(set(ids)) == len(ids) == 65
    assert pulled(emulator, subscription, ids) == set(ids)


HUNG = """
import os, sys, time
from weighbridge import EnvelopePublisher
publisher = EnvelopePublisher(sys.argv[1], linger=0)
publisher.capture("flights", b"1", b"2")
while not (publisher._worker.delivery and publisher._worker.delivery._in_flight):
    pass
began = time.monotonic()
for _ in range(5):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
print(time.monotonic() - began)
publisher.close(timeout=0)
os._exit(0)
"""


def test_forks_do_not_wait_for_a_broker_that_hangs() -> None:
    """Only a moment each, for calls that are about to be answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", HUNG, "projects/test/topics/flights"],
            env={**os.environ, "PUBSUB_EMULATOR_HOST": host, "GRPC_VERBOSITY": "NONE"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert 0 < float(done.stdout) < 5 * CALL_SECONDS + 2, done.stderr


CELERY = """
import os
from celery import Celery
from weighbridge import EnvelopePublisher

folder = os.environ["FOLDER"]
app = Celery("tasks", broker="filesystem://", set_as_current=True)
queue = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder}
app.conf.broker_transport_options = queue
publisher = EnvelopePublisher(folder + "/captured")

@app.task
def capture(number):
    with open(folder + "/ids", "a") as ids:
        print(publisher.capture("flights", b"%d" % number, b"2"), file=ids)
"""


@pytest.mark.slow
def test_celery(tmp_path: Path) -> None:
    pytest.importorskip("celery")
    (tmp_path / "tasks.py").write_text(CELERY)
    ids = tmp_path / "ids"
    ids.touch()
    environment = {**os.environ, "FOLDER": str(tmp_path)}
    environment["PYTHONPATH"] = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    asking = "import tasks; [tasks.capture.delay(number) for number in range(40)]"
    subprocess.run([sys.executable, "-c", asking], env=environment, cwd=tmp_path, check=True)
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "2"],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: len(ids.read_text().splitlines()) == 40, 60)
        worker.terminate()
        worker.wait(30)
    finally:
        worker.kill()
        worker.wait()
    assert set(envelopes(stored(tmp_path / "captured"))) == set(ids.read_text().split())
