"""The clients in other languages: what they publish is what the pipeline reads."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Emulator, eventually
from support import Home, stored, write_package

from pipelines.decode import decode
from weighbridge import Envelope
from weighbridge.archive import Message

ROOT = Path(__file__).parents[1]
CLIENTS = ROOT / "examples/clients"
SCHEMAS = str(ROOT / "handlers/weighbridge")
CALLS: list[dict[str, Any]] = [
    {
        "request": {
            "case_id": f"c-{n}",
            "name": "Zoë \u2028 <&> 😀",
            "amounts": [n, -1.5e-7, None],
        },
        "response": {"score": n / 100, "deep": [[[{"yes": True}]]]},
        **({"context": {"seen": n}} if n % 3 else {}),
        "event_time": f"2026-03-01T12:00:{n % 60:02}.25+01:00",
        "status": 200 if n % 5 else 503,
    }
    for n in range(250)
]
MODEL = """
from typing import Annotated

from extractors import ActualLabel, PredictionId, PredictionLabel, PredictionScore, Row, extractor


class Case(Row):
    case_id: Annotated[str, PredictionId]
    label: Annotated[str, PredictionLabel]
    score: Annotated[float, PredictionScore]


class Truth(Row):
    case_id: Annotated[str, PredictionId]
    label: Annotated[str, ActualLabel]


@extractor("cases", row=Case, model_type="binary", statuses=None)
def extract(envelope):
    score = envelope.response["score"]
    yield {"case_id": envelope.request["case_id"], "label": "yes", "score": score}


@extractor("cases", row=Truth, kind="actual")
def extract_actual(envelope):
    yield {"case_id": "c-0", "label": envelope.actual["label"]}
"""
pytestmark = pytest.mark.slow
Client = Callable[..., None]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def done(command: list[str], folder: Path, **more: Any) -> None:
    finished = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, **more
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.fixture(scope="module", params=["go", "node"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Runs a client on `CALLS`, with further options."""
    language = request.param
    tools = [tool(name) for name in {"go": ["go"], "node": ["node", "npm"]}[language]]
    folder = tmp_path_factory.mktemp(language) / "client"
    unwanted = shutil.ignore_patterns("node_modules")
    shutil.copytree(CLIENTS / language, folder, ignore=unwanted)
    if language == "go":
        done([*tools, "build", "-o", "client", "."], folder)
        command = [str(folder / "client")]
    else:
        done([tools[1], "install", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
        command = [tools[0], "main.js"]
    lines = "".join(f"{json.dumps(call)}\n" for call in CALLS)

    def run(*options: str, **env: str) -> None:
        shared = ["--model", "cases", "--schemas", SCHEMAS]
        done([*command, *shared, *options], folder, input=lines, env={**os.environ, **env})

    return run


def assert_read(messages: list[Message]) -> None:
    read = [decode(message, 10 << 20) for message in messages]
    found: list[Envelope] = []
    for one in read:
        assert not isinstance(one, dict)
        assert not one.suspicious
        found += one.envelopes()
    assert {one.model_id for one in found} == {"cases"}
    assert len({one.envelope_id for one in found}) == len(CALLS) + 1
    [actual] = [one for one in found if one.kind == "actual"]
    assert actual.actual == {"label": "yes"}
    predictions = [one for one in found if one.kind == "prediction"]
    assert len([m for m in messages if "content" in m.attributes]) == 1
    predictions.sort(key=lambda one: int(one.request["case_id"][2:]))
    assert [
        {
            "request": one.request,
            "response": one.response,
            **({"context": one.context} if one.context else {}),
            "event_time": one.event_time.isoformat(),
            "status": one.status,
        }
        for one in predictions
    ] == [
        {**call, "event_time": f"2026-03-01T11:00:{n % 60:02}.250000+00:00"}
        for n, call in enumerate(CALLS)
    ]


def test_what_a_client_publishes_is_what_the_pipeline_reads(
    client: Client, emulator: Emulator
) -> None:
    topic, subscription = emulator.topic()
    client("--topic", topic, PUBSUB_EMULATOR_HOST=emulator.host)
    received: list[Message] = []

    def complete() -> bool:
        answer = emulator.subscriber.pull(subscription=subscription, max_messages=10, timeout=10)
        for one in answer.received_messages:
            received.append(Message(one.message.data, dict(one.message.attributes), "m", 1))
        return len(received) >= 3

    eventually(complete, 30)
    assert_read(received)


def test_a_file_that_a_client_writes_becomes_rows(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"cases_{tmp_path.name}"
    write_package(tmp_path, package, cases=MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    home = Home(tmp_path, package)
    home.input.mkdir()
    client("--archive", str(home.input / "calls.avro"))
    assert [path.name for path in home.input.iterdir()] == ["calls.avro"]
    assert_read(list(stored(home.input)))
    report = home.run()
    assert report.failures == {}
    rows = {row["case_id"]: row["score"] for row in home.rows("cases")}
    assert rows == {call["request"]["case_id"]: call["response"]["score"] for call in CALLS}
    assert [row["label"] for row in home.rows("cases_actuals")] == ["yes"]
