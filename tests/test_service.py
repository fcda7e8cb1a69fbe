"""The templated service under a real server: answers, probes, metrics, and its end."""

import dataclasses
import gzip
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Emulator, eventually
from support import environment, stored
from test_docs import DOCS, blocks, mentioned

from pipelines.decode import decode
from weighbridge.archive import Message
from weighbridge.service import (
    Answer,
    BadRequestError,
    ModelHandler,
    Settings,
    SettingsError,
    create_app,
)
from weighbridge.service.metrics import BUCKETS

HANDLER = """
import asyncio
import os
import threading
import time
from pathlib import Path

import numpy as np

from weighbridge import attach
from weighbridge.service import Answer, BadRequestError, ModelHandler


def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.005)


class Doubler(ModelHandler):
    def load(self):
        wait_for("loaded")
        self.model_version = "of-load"

    def predict(self, request):
        if request == ["fail", "secret"]:
            raise RuntimeError(request[1])
        if request == "refuse":
            raise BadRequestError("refuse is no number")
        if request == "odd":
            return object()
        if request == "numpy":
            return {"values": np.array([1.5, float("nan")]), 1: {2}}
        if request == "thread":
            attach(looked_up=threading.current_thread() is not threading.main_thread())
            return Answer(1, {"inner": [1]}, sampling_key="customer")
        if isinstance(request, dict):
            Path("entered").touch()
            wait_for(request["until"])
            return "held"
        return 2 * request


class Async(ModelHandler):
    async def load(self):
        await asyncio.sleep(0)

    async def predict(self, request):
        await asyncio.sleep(0)
        attach(on_loop=threading.current_thread() is threading.main_thread())
        return 3 * request


class Broken(ModelHandler):
    def load(self):
        raise OSError("no such file: model.bin")

    def predict(self, request):
        return 1


class Empty(ModelHandler):
    pass
"""


class Service:
    """The service in a process of its own, as `uvicorn --factory` runs it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        (folder / "served.py").write_text(HANDLER)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.out = folder / "captured"
        variables = {
            "HANDLER": "served:Doubler",
            "MODEL": "doubler",
            "DESTINATION": str(self.out),
            **settings,
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WEIGHBRIDGE_")}
        self.process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("uvicorn")),
                *("--factory", "weighbridge.service:create_app", "--port", str(self.port)),
            ],
            cwd=folder,
            env={
                **clean,
                "PYTHONPATH": str(folder),
                **{
                    name if name.startswith("PUBSUB") else f"WEIGHBRIDGE_{name}": value
                    for name, value in variables.items()
                },
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def call(
        self, path: str, body: object = None, method: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, parsed body and headers of an answer."""
        return asked(self.connect(), path, body, method, **headers)

    def status(self, path: str) -> int:
        """Of a GET; 0 as long as nobody listens."""
        try:
            return self.call(path)[0]
        except OSError:
            return 0

    def loaded(self) -> None:
        (self.folder / "loaded").touch()
        eventually(lambda: self.status("/readyz") == 200)

    def end(self) -> str:
        """What it printed, once it has ended after a SIGTERM."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.communicate(timeout=30)[0]

    def envelopes(self) -> list[Any]:
        return read(list(stored(self.out)))


def asked(
    connection: http.client.HTTPConnection,
    path: str,
    body: object = None,
    method: str = "",
    **headers: str,
) -> tuple[int, Any, dict[str, str]]:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method or ("GET" if data is None else "POST"), path, data, named)
    answer = connection.getresponse()
    text = answer.read()
    kind = answer.headers.get("content-type", "")
    return (
        answer.status,
        json.loads(text) if kind == "application/json" else text.decode(),
        {name.lower(): value for name, value in answer.headers.items()},
    )


def read(messages: list[Message]) -> list[Any]:
    found: list[Any] = []
    for message in messages:
        one = decode(message, 10 << 20)
        if not isinstance(one, dict):
            found += one.envelopes()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    (tmp_path / "loaded").touch()


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    service = Service(folder, HEADERS="x-channel")
    try:
        yield service
    finally:
        service.process.kill()
        service.process.communicate()


@pytest.fixture
def ready(service: Service) -> Service:
    service.loaded()
    return service


def test_it_is_ready_once_the_model_is_loaded(service: Service) -> None:
    eventually(lambda: service.status("/healthz") == 200)
    assert service.call("/readyz")[:2] == (503, {"status": "loading"})
    status, body, headers = service.call("/predict", 1)
    assert (status, body) == (503, {"error": "the model is not loaded yet"})
    assert headers["retry-after"] == "1"
    assert "weighbridge_ready 0\n" in service.call("/metrics")[1]
    service.loaded()
    assert service.call("/readyz")[:2] == (200, {"status": "ready"})
    assert service.call("/predict", 1)[:2] == (200, 2)
    assert "weighbridge_ready 1\n" in service.call("/metrics")[1]


def test_answers_and_what_is_captured_of_them(ready: Service) -> None:
    ids = {}
    requests: dict[str, tuple[str, Any, int, Any]] = {
        "plain": ("/v1/models/doubler:predict", 4, 200, 8),
        "short": ("/predict", "ab", 200, "abab"),
        "thread": ("/predict", "thread", 200, 1),
        "numpy": ("/predict", "numpy", 200, {"values": [1.5, None], "1": [2]}),
        "refused": ("/predict", "refuse", 400, {"error": "refuse is no number"}),
        "failed": ("/predict", ["fail", "secret"], 500, {"error": "the model failed"}),
        "odd": ("/predict", "odd", 500, {"error": "the model failed"}),
        "no json": ("/predict", b'{"a": NaN}', 400, {"error": "the body is not JSON"}),
    }
    for name, (path, body, status, answer) in requests.items():
        found = ready.call(path, body, x_channel="app", authorization="secret")
        assert found[:2] == (status, answer), name
        ids[name] = found[2]["x-envelope-id"]
    assert ready.call("/predict", gzip.compress(b"5"), content_encoding="gzip")[:2] == (200, 10)
    for path, method, status in (
        ("/v1/models/other:predict", "POST", 404),
        ("/predict", "GET", 405),
        ("/nowhere", "GET", 404),
    ):
        assert ready.call(path, b"1" if method == "POST" else None)[0] == status
    printed = ready.end()
    captured = {one.envelope_id: one for one in ready.envelopes()}
    assert len(captured) == len(requests) + 1
    for name, (_, body, status, answer) in requests.items():
        one = captured[ids[name]]
        assert (one.model_id, one.model_version, one.status) == ("doubler", "of-load", status)
        assert one.request_bytes == (body if isinstance(body, bytes) else json.dumps(body).encode())
        assert one.response == answer
        assert one.headers["x-channel"] == "app"
        assert "authorization" not in one.headers
    assert captured[ids["thread"]].context == {"looked_up": True, "inner": [1]}
    assert captured[ids["plain"]].context == {}
    [packed] = set(captured) - set(ids.values())
    assert captured[packed].request == 5
    # What failed is in the log, and nothing of the request.
    assert "predict failed with RuntimeError" in printed
    assert "served.py" in printed
    assert "secret" not in printed


def test_an_async_handler_runs_in_the_loop(folder: Path) -> None:
    service = Service(folder, HANDLER="served:Async", MODEL_VERSION="9")
    service.loaded()
    assert service.call("/predict", 2)[:2] == (200, 6)
    service.end()
    [one] = service.envelopes()
    assert (one.context, one.model_version) == ({"on_loop": True}, "9")


def test_late_actuals(ready: Service) -> None:
    path = "/v1/models/doubler:actual"
    moment = "2026-03-01T12:00:00.5%2B01:00"
    query = f"?event_time={moment}&model_version=7&sampling_key=customer"
    status, body, _ = ready.call(path + query, {"case": "c-1", "label": "yes"})
    assert status == 202
    assert ready.call(path, {"case": "c-2"})[0] == 202
    assert ready.call(path, b"{")[:2] == (400, {"error": "the body is not JSON"})
    status, refused, _ = ready.call(f"{path}?event_time=2026-03-01T12:00:00", {})
    assert status == 400
    assert refused["error"].startswith("event_time is not a time with offset")
    ready.end()
    first, second = sorted(ready.envelopes(), key=lambda one: str(one.actual["case"]))
    assert (first.envelope_id, first.kind) == (body["envelope_id"], "actual")
    assert first.actual == {"case": "c-1", "label": "yes"}
    assert first.event_time == datetime(2026, 3, 1, 11, 0, 0, 500_000, UTC)
    assert (first.model_version, second.model_version) == ("7", "")


def test_a_body_that_is_too_large_is_refused(folder: Path) -> None:
    service = Service(folder, MAX_BODY_BYTES="100")
    service.loaded()
    assert service.call("/predict", b"1" * 90)[0] == 200
    for body, headers in (
        (b"1" * 101, {}),
        (gzip.compress(b"1" * 101), {"content_encoding": "gzip"}),
    ):
        status, answer, _ = service.call("/predict", body, **headers)
        assert (status in (400, 413), "100 bytes" in answer["error"]) == (True, True)
    service.end()


def test_metrics_are_what_prometheus_reads(ready: Service) -> None:
    for body in (1, 2, ["fail", "secret"]):
        ready.call("/predict", body)
    ready.call("/v1/models/doubler:actual", {})
    status, text, headers = ready.call("/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    line = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+')
    samples = {}
    for one in text.splitlines():
        if not one.startswith("# "):
            assert line.fullmatch(one), one
            name, _, value = one.rpartition(" ")
            assert name not in samples
            samples[name] = float(value)
    assert samples['weighbridge_requests_total{route="predict",status="200"}'] == 2
    assert samples['weighbridge_requests_total{route="predict",status="500"}'] == 1
    assert samples['weighbridge_requests_total{route="actual",status="202"}'] == 1
    assert samples["weighbridge_requests_in_progress"] == 0
    buckets = [samples[f'weighbridge_predict_seconds_bucket{{le="{one}"}}'] for one in BUCKETS]
    assert buckets == sorted(buckets)
    assert samples['weighbridge_predict_seconds_bucket{le="+Inf"}'] == 3
    assert samples["weighbridge_predict_seconds_count"] == 3
    assert 0 < samples["weighbridge_predict_seconds_sum"] < 10
    envelopes = {name: n for name, n in samples.items() if name.startswith("weighbridge_env")}
    assert sum(envelopes.values()) == 4
    assert all('model="doubler"' in name for name in envelopes)


def test_a_model_that_cannot_be_loaded_is_not_healthy(folder: Path) -> None:
    service = Service(folder, HANDLER="served:Broken")
    eventually(lambda: service.status("/healthz") == 500)
    assert service.call("/readyz")[:2] == (503, {"status": "failed"})
    assert service.call("/predict", 1)[0] == 503
    printed = service.end()
    assert "load failed with OSError" in printed
    assert "no such file: model.bin" in printed


def test_from_sigterm_on_it_is_not_ready_and_goes_on_answering(folder: Path) -> None:
    service = Service(folder, DRAIN_SECONDS="600")
    service.loaded()
    held = service.connect()
    held.request("POST", "/predict", json.dumps({"until": "free"}))
    eventually((folder / "entered").exists)
    service.process.terminate()
    eventually(lambda: service.status("/readyz") == 503)
    assert service.call("/readyz")[1] == {"status": "draining"}
    assert service.call("/healthz")[0] == 200
    assert service.call("/predict", 3)[:2] == (200, 6)
    # The second one does not wait for load balancers, but for what is in hand.
    service.process.terminate()
    eventually(lambda: service.status("/healthz") == 0)
    assert service.process.poll() is None
    (folder / "free").touch()
    answer = held.getresponse()
    assert (answer.status, answer.read()) == (200, b'"held"')
    service.end()
    assert [one.request for one in service.envelopes()] == [3, {"until": "free"}]


def answered_until_the_end(service: Service, clients: int, after: int) -> list[int]:
    """Numbers that were answered by a service that gets a SIGTERM meanwhile."""
    answered: list[int] = []

    def ask(client: int) -> None:
        connection = service.connect()
        for number in range(client, 10**9, clients):
            try:
                status, answer, _ = asked(connection, "/predict", number)
            except (OSError, http.client.HTTPException):
                return
            assert (status, answer) == (200, 2 * number)
            answered.append(number)

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(answered) >= after, 30)
    service.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert service.process.wait(30) in (0, -signal.SIGTERM)
    return answered


def test_sigterm_loses_nothing_that_was_answered(ready: Service) -> None:
    answered = answered_until_the_end(ready, clients=8, after=500)
    captured = [one.request for one in ready.envelopes() if one.status == 200]
    assert len(captured) == len(set(captured))
    # One that was sent when its client had gone may be there besides.
    assert set(answered) <= set(captured)
    assert len(captured) - len(answered) <= 8


def test_sigterm_loses_nothing_on_its_way_to_pubsub(emulator: Emulator, folder: Path) -> None:
    topic, subscription = emulator.topic()
    service = Service(
        folder, DESTINATION=topic, SPOOL=str(folder / "spool"), PUBSUB_EMULATOR_HOST=emulator.host
    )
    service.loaded()
    answered = answered_until_the_end(service, clients=4, after=200)
    assert len(answered) >= 200
    received: list[Message] = []

    def complete() -> bool:
        answer = emulator.subscriber.pull(subscription=subscription, max_messages=100, timeout=10)
        for one in answer.received_messages:
            received.append(Message(one.message.data, dict(one.message.attributes), "m", 1))
        return set(answered) <= {one.request for one in read(received)}

    eventually(complete)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HANDLER": ""}, "WEIGHBRIDGE_HANDLER is missing: set it to my_package"),
        ({"HANDLER": "served"}, "'served' is not of the form package.module:Class"),
        ({"HANDLER": "nowhere.at:All"}, "there is no module nowhere; is its folder on PYTHONPATH?"),
        ({"HANDLER": "served:Nobody"}, "served has no Nobody"),
        ({"HANDLER": "served:Path"}, "does not derive from weighbridge.service.ModelHandler"),
        ({"HANDLER": "served:Empty"}, "WEIGHBRIDGE_HANDLER: Empty has no predict"),
        ({"MODEL": ""}, "WEIGHBRIDGE_MODEL is missing: set it to house-price"),
        ({"MODEL": "House Price"}, "WEIGHBRIDGE_MODEL: 'House Price' is no model id"),
        ({"DESTINATION": ""}, "WEIGHBRIDGE_DESTINATION is missing"),
        ({"DESTINATION": "projects/p"}, "the publisher cannot start: 'projects/p' is no topic"),
        ({"THREADS": "many"}, "WEIGHBRIDGE_THREADS: 'many' is not a whole number"),
        ({"THREADS": "0"}, "WEIGHBRIDGE_THREADS: it must be at least 1"),
        ({"DRAIN_SECONDS": "-1"}, "WEIGHBRIDGE_DRAIN_SECONDS: it must not be below 0"),
        ({"HEADERS": "cookie"}, "cookie"),
        ({"SAMPLE": "half"}, "WEIGHBRIDGE_SAMPLE: write model=rate"),
    ],
)
def test_a_wrong_setting_is_one_message(folder: Path, settings: dict[str, str], said: str) -> None:
    printed = Service(folder, **settings).process.communicate(timeout=30)[0]
    assert said in printed
    assert "Traceback" not in printed


def test_settings_of_the_constructor_come_before_those_of_the_environment(tmp_path: Path) -> None:
    class Handler(ModelHandler):
        def predict(self, request: Any) -> Any:
            return Answer(request)

    variables = {"WEIGHBRIDGE_MODEL": "outer", "WEIGHBRIDGE_THREADS": "3"}
    given = {"handler": Handler, "model": "inner", "destination": str(tmp_path)}
    with environment(**variables):
        settings = Settings.of(given)
        assert (settings.model, settings.threads) == ("inner", 3)
        assert create_app(**given).routes
        with pytest.raises(SettingsError, match="no such setting: modle; there are close_seconds"):
            create_app(**given, modle="x")
        with pytest.raises(SettingsError, match="WEIGHBRIDGE_DESTINATION is missing"):
            create_app(Handler)
    assert isinstance(settings.new_handler(), Handler)
    assert issubclass(BadRequestError, Exception)


def test_the_service_of_the_docs_is_one(folder: Path) -> None:
    page = DOCS / "model-service.md"
    [module] = [block for block in blocks(page) if block.language == "python"]
    [install, start] = [block for block in blocks(page) if block.language == "sh"]
    (folder / module.title).write_text(module.text)
    words = shlex.split(start.text, comments=True)
    variables = dict(word.split("=", 1) for word in words if word.startswith("WEIGHBRIDGE_"))
    assert set(variables) == {f"WEIGHBRIDGE_{name}" for name in ("HANDLER", "MODEL", "DESTINATION")}
    short = {name.removeprefix("WEIGHBRIDGE_"): value for name, value in variables.items()}
    service = Service(folder, **short)
    eventually(lambda: service.status("/readyz") == 200)
    body = words[words.index("-d") + 1].encode()
    assert service.call("/predict", body)[:2] == (200, {"price": 814_500.0})
    assert service.call("/predict", {"city": "Rome"})[:2] == (
        400,
        {"error": "city is not one of Oslo, Bergen"},
    )
    service.end()
    [one] = [one for one in service.envelopes() if one.status == 200]
    assert (one.model_version, one.context) == ("2026-01", {"per_metre": 9000.0})


def test_settings_and_metrics_are_on_their_page(ready: Service) -> None:
    ready.call("/predict", 1)
    metrics = set(re.findall(r"^# TYPE (\w+)", ready.call("/metrics")[1], re.M))
    assert len(metrics) > 5
    settings = {one.name for one in dataclasses.fields(Settings)}
    text = (DOCS / "model-service.md").read_text()
    assert mentioned(metrics | settings, text) == []
    for setting in dataclasses.fields(Settings):
        if isinstance(setting.default, (int, float)) and setting.default < 1000:
            assert f"| `{setting.name}` | {setting.default:g} |" in text
