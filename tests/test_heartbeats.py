"""What a publisher counts: in its stats, in heartbeats, in metrics and in the log."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from test_publisher import blocked, told

from weighbridge import EnvelopePublisher, drops, log, telemetry
from weighbridge.archive import read_archive
from weighbridge.counts import MAX_MODELS, ModelCounts
from weighbridge.wire import HEARTBEAT_CONTENT, unpack_heartbeat


def heartbeats(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*.avro")):
        with open(path, "rb") as stream:
            for message in read_archive(stream):
                if message.attributes["content"] == HEARTBEAT_CONTENT:
                    said = unpack_heartbeat(message.attributes, message.data)
                    found.append({**said, "final": message.attributes.get("final")})
    return found


def test_the_last_one_has_the_final_counts(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(tmp_path, sample={"half": 0, "*": 1})
    ids = [publisher.capture("flights", b"1", b"2") for _ in range(3)]
    publisher.capture("half", b"1", b"2")
    publisher.capture_actual("flights", "str")  # type: ignore[arg-type]
    publisher.reserve()
    publisher.close()
    [last] = heartbeats(tmp_path)
    assert last["publisher_id"] == ids[0].rpartition("-")[0]
    assert (last["sequence"], last["final"]) == (6, "true")
    models = {one.pop("model_id"): one for one in last["models"]}
    nothing = {"served": 0, "sampled_out": 0, "dropped": {}, "spooled": 0, "published": 0}
    assert models == {
        "flights": {**nothing, "served": 4, "published": 3, "dropped": {"refused": 1}},
        "half": {**nothing, "served": 1, "sampled_out": 1},
    }


def test_they_come_again_and_again(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(tmp_path, heartbeat=0.01, linger=0)
    publisher._destination.linger = 0.0
    publisher.capture("flights", b"1", b"2")
    eventually(lambda: len(heartbeats(tmp_path)) > 2)
    publisher.capture("flights", b"1", b"2")
    publisher.close()
    # The thread may say the first one before the capture that started it is counted.
    served = [sum(m["served"] for m in one["models"]) for one in heartbeats(tmp_path)]
    assert served == sorted(served)
    assert served[-1] == 2
    assert {1, 2} <= set(served) <= {0, 1, 2}
    final = [one["final"] for one in heartbeats(tmp_path)]
    assert final == [None] * (len(final) - 1) + ["true"]


def test_0_means_none(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(tmp_path, heartbeat=0)
    publisher.capture("flights", b"1", b"2")
    publisher.close()
    assert heartbeats(tmp_path) == []
    assert told(publisher) == {"served": 1, "published": 1}


def test_model_ids_without_end_are_counted_together(tmp_path: Path) -> None:
    """Callers may name models: what is counted for each must be bounded."""
    publisher = EnvelopePublisher(tmp_path)
    for number in range(MAX_MODELS + 50):
        publisher.capture(f"m{number}", b"1", b"2")
    publisher.close()
    models = publisher.stats()["models"]
    assert len(models) == MAX_MODELS + 1
    assert models[""]["published"] == 50
    assert told(publisher) == {"served": MAX_MODELS + 50, "published": MAX_MODELS + 50}


def test_metrics_say_what_stats_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr("opentelemetry.metrics.get_meter", provider.get_meter)
    monkeypatch.setattr(telemetry, "_exported", False)
    monkeypatch.setattr(telemetry, "_sources", type(telemetry._sources)())
    publisher = EnvelopePublisher(tmp_path, sample={"half": 0, "*": 1})
    publisher.capture("flights", b"1", b"2")
    publisher.capture("flights", "str", b"2")  # type: ignore[arg-type]
    publisher.capture("half", b"1", b"2")
    publisher.close()
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        (metric.name, *sorted(dict(point.attributes or {}).items())): point.value  # type: ignore[union-attr]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    name = "weighbridge.envelopes"
    flights, half = ("model_id", "flights"), ("model_id", "half")
    assert {key: value for key, value in found.items() if value} == {
        (name, flights, ("outcome", "published")): 1,
        (name, ("cause", "refused"), flights, ("outcome", "dropped")): 1,
        (name, half, ("outcome", "sampled_out")): 1,
    }
    assert ("weighbridge.envelopes.waiting", flights, ("place", "spooled")) in found


def test_without_opentelemetry_nothing_is_missed(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
from weighbridge import EnvelopePublisher
publisher = EnvelopePublisher(sys.argv[1])
publisher.capture("flights", b"1", b"2")
publisher.close()
print(publisher.stats()["published"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_line_when_drops_begin_and_one_when_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log, "_logged", {})
    monkeypatch.setattr(drops, "QUIET_SECONDS", 0.3)
    caplog.set_level(logging.WARNING, "weighbridge")
    folder = tmp_path / "folder"
    publisher = EnvelopePublisher(folder, max_queued_bytes=600, linger=0)
    publisher._destination.linger = 0.0
    blocked(folder)
    for _ in range(30):
        publisher.capture("canary", b"canary" * 5, b"2")
    eventually(lambda: "began" in caplog.text)
    for _ in range(5):
        publisher.capture("canary", b"canary" * 5, b"2")
    folder.unlink()
    eventually(lambda: "none for" in caplog.text)
    publisher.close()
    dropped = publisher.stats()["dropped"]["queue_full"]
    lines = [line for line in caplog.messages if "could not" not in line]
    assert lines[0].startswith("weighbridge began to drop envelopes: queue_full ")
    assert lines[1:] == [f"weighbridge dropped {dropped} envelopes, none for 0 s"]
    assert "canary" not in caplog.text


def test_the_counts_add_up_at_every_moment() -> None:
    """Also while the thread moves envelopes from memory to the spool and on to the broker."""
    counts = ModelCounts("m", None)
    end = threading.Event()

    def work() -> None:
        while not end.is_set():
            counts.accepted += 3
            counts.spooled += 3
            counts.spooled -= 2
            counts.published += 2
            counts.spooled -= 1
            counts.lost["spool_full"] += 1

    thread = threading.Thread(target=work)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(3000):
            said = counts.stats()
            settled = said["published"] + said["spooled"] + sum(said["dropped"].values())
            assert said["served"] == settled + said["queued"]
    finally:
        sys.setswitchinterval(interval)
        end.set()
        thread.join()
