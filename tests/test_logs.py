"""Lines of the log: what they are about, on workers by Beam's own handler, and as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2_grpc, endpoints_pb2
from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler
from forked import call
from support import NOW, PACKAGES, Home, packed

from pipelines.logs import FIELDS, JsonFormatter, about, log
from pipelines.tables import MODELS, metrics_of

SECRET = "sesame"


class Collected(beam_fn_api_pb2_grpc.BeamFnLoggingServicer):  # type: ignore[misc]
    """What a runner's log service receives."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def Logging(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        for batch in request_iterator:
            self.entries += batch.log_entries
        yield from ()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path, "harmful")
    bodies = [
        {"request": {"number": number, "name": SECRET}, "response": 1} for number in range(200)
    ]
    home.put(packed("raises", bodies), packed("good", bodies, first=1000))
    return home


@pytest.fixture
def collected() -> Iterator[Collected]:
    """With the harness's handler on the root logger, as `sdk_worker_main` puts it there."""
    service = Collected()
    server = grpc.server(ThreadPoolExecutor(2))
    beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(service, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    service_at = endpoints_pb2.ApiServiceDescriptor(url=f"localhost:{port}")
    handler = FnApiLogRecordHandler(service_at)
    logging.getLogger().addHandler(handler)
    yield service
    logging.getLogger().removeHandler(handler)
    if handler._alive:
        handler.close()
    server.stop(None)


def _close() -> None:
    [handler] = [h for h in logging.getLogger().handlers if isinstance(h, FnApiLogRecordHandler)]
    handler.close()  # sends what it holds


def test_lines_of_a_worker_name_the_model_and_the_step(home: Home, collected: Collected) -> None:
    home.run("--no_arize", "--quarantine")
    _close()
    [entry] = [one for one in collected.entries if "is quarantined" in one.message]
    assert entry.message.startswith("raises is quarantined: fails on more than")
    assert entry.message.endswith(" [model=raises]")
    assert entry.transform_id.startswith("ExtractRows/")
    assert entry.severity == entry.Severity.WARN
    assert not any(SECRET in one.message + one.trace for one in collected.entries)


def test_elsewhere_the_text_stays_as_it_is(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.run("--no_arize", "--quarantine")
    [record] = [one for one in caplog.records if "is quarantined" in one.getMessage()]
    assert "[model=" not in record.getMessage()
    line = json.loads(JsonFormatter("weighbridge run").format(record))
    assert (line["model"], line["job"], line["severity"]) == (
        "raises",
        "weighbridge run",
        "WARNING",
    )
    assert line["message"].startswith("raises is quarantined: ")


@pytest.mark.slow
def test_lines_of_a_worker_process_reach_the_runner(
    home: Home, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PACKAGES))
    home.run("--no_arize", "--quarantine", "--direct_running_mode", "multi_processing")
    sent = [text for text in caplog.messages if "is quarantined" in text]
    assert any("[model=raises]" in text and "ExtractRows/" in text for text in sent)


def test_the_name_of_a_model_is_that_of_its_counters() -> None:
    for name in (f"{MODELS}.payment_fraud", "payment_fraud", "weighbridge.failures"):
        assert about(name) == {"model": metrics_of(name)}
    assert set(about("a")) <= set(FIELDS)


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_of_a_command_is_an_object(home: Home) -> None:
    (home.input / "cut.avro").write_bytes((home.input / "a.avro").read_bytes()[:-20])
    arguments = home.arguments("--no_arize", "--quarantine", "--log_format", "json")
    status, out, err = call("run", *arguments)
    assert status == 0, err
    said, warned = _lines(out), _lines(err)
    for line in said + warned:
        assert {"severity", "time", "message", "job", "step"} <= set(line) <= {
            "severity", "time", "message", "job", "step", *FIELDS
        }  # fmt: skip
        assert line["job"] == "weighbridge run"
        assert line["time"] > NOW.isoformat()
        assert SECRET not in str(line)
    assert [line["message"] for line in said[:1]] == ["created table models.endless"]
    [table] = [line for line in said if "envelopes  known" in line["message"]]
    assert table["severity"] == "INFO" and "\n" in table["message"]
    [quarantined] = [line for line in warned if "is quarantined" in line["message"]]
    assert quarantined["model"] == "raises"
    assert "ExtractRows" in quarantined["step"]
    [damaged] = [line for line in warned if "is damaged" in line["message"]]
    assert (damaged["severity"], damaged["step"]) == ("WARNING", "read") or "Read" in damaged[
        "step"
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--input_files", "nothing/*.avro", "--no_arize"),
        ("run", "--nonsense"),
        ("ledger", "--home", "nowhere"),
    ],
)
def test_errors_are_objects_too(arguments: tuple[str, ...], tmp_path: Path) -> None:
    status, out, err = call(*arguments, cwd=tmp_path, WEIGHBRIDGE_LOG_FORMAT="json")
    assert (status, out) == (2, "")
    [line] = _lines(err)
    assert (line["severity"], line["job"]) == ("ERROR", f"weighbridge {arguments[0]}")
    assert line["message"].startswith("Error: ")


def test_the_job_is_what_cloud_run_calls_it(tmp_path: Path) -> None:
    env = {"WEIGHBRIDGE_LOG_FORMAT": "json", "CLOUD_RUN_JOB": "prod-check"}
    _, _, err = call("ledger", "--home", "nowhere", cwd=tmp_path, **env)
    assert _lines(err)[0]["job"] == "prod-check"


def test_an_exception_shows_its_class_and_no_text() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        record = log.makeRecord("weighbridge", logging.ERROR, "f", 1, "failed", (), None)
        record.exc_info = sys.exc_info()
    line = json.loads(JsonFormatter("j").format(record))
    assert line["message"].startswith("failed\n") and line["message"].endswith("ValueError")
    assert SECRET not in str(line)
