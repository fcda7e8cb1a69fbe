"""`weighbridge tables maintain` says how long BigQuery keeps partitions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import GoogleEmulators
from google.cloud.bigquery import SchemaField, Table
from google_emulators import InBigQuery
from support import NOW, environment, plain, untyped, write_package

from pipelines.cli import _main

DAY = timedelta(days=1)
KEEPS = untyped("int", "short").replace(
    '"untyped"', '"untyped", settings=ModelSettings(retention=timedelta(days=30))'
)
IMPORTS = "from datetime import timedelta\nfrom extractors import ModelSettings\n"


@pytest.fixture
def home(
    tmp_path: Path, google: GoogleEmulators, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InBigQuery]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    name = f"keeps_{tmp_path.name}"
    write_package(tmp_path, name, short=IMPORTS + KEEPS, long=untyped("int", "long"))
    home = InBigQuery(tmp_path, google, name)
    for model in ("short", "long"):
        messages = [
            plain(
                model,
                {"request": {model: 1}, "response": {}},
                message_id=f"{model}{age}",
                at=NOW - age * DAY,
            )
            for age in (0, 29, 31, 32, 99, 101)
        ]
        home.put(*messages, name=model)
    home.run()
    yield home
    for module in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[module]


def maintain(
    home: InBigQuery, capsys: pytest.CaptureFixture[str], *more: str
) -> dict[str, list[str]]:
    """What is printed of each table."""
    capsys.readouterr()
    own = ["--extractors_package", home.package, *more]
    with environment(**home.google.environment):
        assert _main(["tables", "maintain", *home.place(), *own]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "." in line]
    return {line[0]: line[1:] for line in lines}


def expiration(home: InBigQuery, table: str) -> timedelta | None:
    milliseconds = home.table(table).time_partitioning.expiration_ms
    return milliseconds and timedelta(milliseconds=milliseconds)


@pytest.mark.slow
def test_partitions_expire_as_models_and_the_command_say(
    home: InBigQuery, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = Table(f"{home.dataset}.theirs", [SchemaField("event_time", "TIMESTAMP")])
    home.google.client.create_table(theirs)
    planned = maintain(home, capsys, "--dry_run")
    assert planned["models.short"] == ["for", "ever", "->", "30d", "4"]
    assert planned["models.long"] == ["for", "ever", "0"]
    assert "models.theirs" not in planned
    assert expiration(home, "short") is None
    assert maintain(home, capsys, "--model", "short").keys() == {"models.short"}
    # From the beginning of a day: 30 days after its end.
    assert (expiration(home, "short"), expiration(home, "long")) == (31 * DAY, None)
    found = maintain(home, capsys, "--retain", "100d")
    assert found["models.short"] == ["30d", "4"]
    assert found["models.long"] == ["for", "ever", "->", "100d", "1"]
    assert expiration(home, "long") == expiration(home, "weighbridge_skipped") == 101 * DAY
    assert home.table("long").time_partitioning.field == "event_time"
    assert maintain(home, capsys)["models.long"] == ["100d", "1"]
    home.run()  # a launch leaves it as it is
    assert expiration(home, "long") == 101 * DAY
