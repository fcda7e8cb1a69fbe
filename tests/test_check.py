"""`weighbridge check`: its lines are true, and are what the alerts of deploy/terraform look at."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from forked import call
from support import NOW, Home, heartbeat, micros, packed, scored

from pipelines.check import CHECKS
from pipelines.receiver import ArizeReceiver
from weighbridge.archive import Message

HOUR = 3_600_000_000


def traffic(served: int, sent: int, age: int = 0) -> list[Message]:
    """A publisher that says `served`, of which `sent` came, `age` microseconds ago."""
    counts = {"model_id": "scores", "served": served, "sampled_out": 0, "dropped": {}}
    beat = heartbeat(
        "pub",
        [{**counts, "spooled": 0, "published": served}],
        sequence=served,
        time=micros(NOW) - age,
    )
    return [packed("scores", [scored(0.5, prefix=f"c{i}") for i in range(sent)]), beat]


def check(home: Home, *more: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and the lines that Cloud Run would read."""
    arguments = ["--home", str(home.folder), "--extractors_package", home.package, "--grace", "0s"]
    status, out, err = call("check", *arguments, *more, "--log_format", "json")
    assert out == ""
    return status, [json.loads(line) for line in err.splitlines()]


def values(lines: list[dict[str, Any]], name: str) -> dict[str, float]:
    return {line["model"]: line["value"] for line in lines if line["check"] == name}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_all_is_well(home: Home) -> None:
    home.put(*traffic(served=3, sent=3))
    home.run()
    status, lines = check(home)
    assert status == 0
    assert {line["check"] for line in lines} == set(CHECKS)
    assert {line["severity"] for line in lines} == {"INFO"}
    assert {line["job"] for line in lines} == {"weighbridge check"}
    assert values(lines, "missing") == {"": 0}
    assert set(values(lines, "undelivered").values()) == {0.0}
    assert 0 <= values(lines, "freshness")[""] < 600


def test_what_is_wrong_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.put(*traffic(served=5, sent=3, age=HOUR))
    monkeypatch.setenv("ARIZE_API_KEY", "wrong")
    monkeypatch.setenv("ARIZE_SPACE_ID", "space")
    with ArizeReceiver("key", "space") as receiver:
        home.run("--arize_url", receiver.url)
    status, lines = check(home, "--max_undelivered", "0s")
    assert status == 3
    assert values(lines, "missing") == {"": 2}
    assert 3600 <= values(lines, "freshness")[""] < 4200
    waiting = values(lines, "undelivered")
    assert waiting["scores"] > 0 and sum(map(bool, waiting.values())) == 1
    wrong = [line for line in lines if line["severity"] == "ERROR"]
    assert [line["check"] for line in wrong] == ["missing", "freshness", "undelivered"]
    assert "sequence 3-4" in wrong[0]["message"]
    assert "3 rows wait for Arize" in wrong[2]["message"]
    # The same for people and for cron.
    arguments = ["--home", str(home.folder), "--extractors_package", home.package]
    status, out, err = call("check", *arguments, "--max_age", "2h", "--grace", "0s")
    assert (status, err) == (3, "")
    assert out.splitlines()[0] == "WRONG: 2 of 5 envelopes of 1 publisher are missing"
    assert sum(line.startswith("ok: ") for line in out.splitlines()) >= 2


def test_without_heartbeats_nothing_is_said_of_them(home: Home) -> None:
    home.put(packed("scores", [scored(0.5)]))
    home.run()
    status, lines = check(home)
    assert status == 0
    assert values(lines, "freshness") == {}


def test_it_writes_nothing(home: Home) -> None:
    home.put(*traffic(served=3, sent=3))
    home.run()
    everything = sorted(path for path in home.folder.rglob("*") if path.is_file())
    before = [(path, path.read_bytes(), path.stat()[stat.ST_MTIME]) for path in everything]
    assert check(home)[0] == 0
    after = sorted(path for path in home.folder.rglob("*") if path.is_file())
    assert [(path, path.read_bytes(), path.stat()[stat.ST_MTIME]) for path in after] == before
