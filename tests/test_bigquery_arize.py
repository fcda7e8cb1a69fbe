"""`weighbridge arize` over tables in BigQuery: what was never sent goes once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import GoogleEmulators
from google_emulators import BUCKET, InBigQuery
from support import NOW, environment, packed, plain, scored
from test_arize_command import received, table_of

from pipelines import arize
from pipelines.cli import _main
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver

DAY = timedelta(days=1)


@pytest.fixture
def home(
    tmp_path: Path, google: GoogleEmulators, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InBigQuery]:
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(arize, "BACKOFF_SECONDS", 0.01)
    with environment(**google.environment, ARIZE_API_KEY="key", ARIZE_SPACE_ID="space"):
        yield InBigQuery(tmp_path, google, "strict")


@pytest.fixture
def receiver() -> Iterator[ArizeReceiver]:
    with ArizeReceiver("key", "space") as receiver:
        yield receiver


def put(home: InBigQuery, *numbers: int, days: int = 0, push: str = "") -> None:
    """Load envelopes of a day into the table: only there, or on to a receiver."""
    messages = [
        packed("scores", [scored(0.5, prefix=f"c{n}")], first=n, at=NOW - days * DAY)
        for n in numbers
    ]
    path = home.put(*messages, name="-".join(map(str, numbers)))
    home.run(*(("--arize_url", push) if push else ("--no_arize",)), files=str(path))


def call(home: InBigQuery, command: str, *more: str) -> int:
    package = ["--extractors_package", home.package]
    return _main(["arize", command, *home.place(), *package, "--model", "scores", *more])


def push(home: InBigQuery, receiver: ArizeReceiver, *more: str) -> int:
    return call(home, "push", "--arize_url", receiver.url, *more)


def ids(*numbers: int) -> dict[str, int]:
    return {f"c{n}-0": 1 for n in numbers}


@pytest.mark.slow
def test_a_table_is_sent_once_and_what_was_delivered_never_again(
    home: InBigQuery, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    put(home, 0, 1, days=3)  # a day of which nothing was sent
    put(home, 10, days=1, push=receiver.url)  # one of which all was sent
    put(home, 20, 21, push=receiver.url)  # and one of which some was
    put(home, 21, 22)  # 21 is there twice, and was sent
    assert received(receiver) == ids(10, 20, 21)
    capsys.readouterr()
    assert call(home, "status") == 0
    # committed, copies too; delivered, waiting, refused, too late, never sent
    assert table_of(capsys.readouterr().out)["scores"] == ["7", "3", "0", "0", "0", "4"]
    assert push(home, receiver) == 0
    assert "scores: 3 rows were never sent; 3 rows pushed now" in capsys.readouterr().out
    assert received(receiver) == ids(0, 1, 10, 20, 21, 22)
    assert push(home, receiver) == 0
    assert "scores: 0 rows were never sent; 0 rows pushed now" in capsys.readouterr().out
    assert received(receiver) == ids(0, 1, 10, 20, 21, 22)
    assert Outbox(home.folder).entries() == set()


def test_a_range_of_days_is_sent_once_more_if_told_so(
    home: InBigQuery, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    put(home, 0, days=2, push=receiver.url)
    put(home, 1, days=1, push=receiver.url)
    day = f"{NOW - DAY:%Y-%m-%d}"
    assert push(home, receiver, "--since", day, "--until", day, "--again") == 0
    assert received(receiver) == {"c0-0": 1, "c1-0": 2}


def test_what_waits_is_not_queued_twice(
    home: InBigQuery, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    put(home, 0, 1)
    with environment(ARIZE_API_KEY="wrong"):
        assert push(home, receiver) == 2
    capsys.readouterr()
    assert call(home, "status") == 1
    assert table_of(capsys.readouterr().out)["scores"] == ["2", "0", "2", "0", "0", "0"]
    assert push(home, receiver, "--again") == 0
    assert received(receiver) == ids(0, 1)


def test_a_day_whose_sent_files_are_gone_is_named(
    home: InBigQuery, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    put(home, 0, push=receiver.url)
    for path in (home.google.root / BUCKET / home.dataset / "scores").rglob("*.parquet"):
        path.unlink()  # as a lifecycle rule does
    put(home, 1, 2)
    capsys.readouterr()
    assert push(home, receiver) == 0
    assert f"scores: not sent: rows of {NOW:%Y-%m-%d}, as some" in capsys.readouterr().out
    assert received(receiver) == ids(0)
    assert call(home, "status") == 0
    assert table_of(capsys.readouterr().out)["scores"] == ["3", "1", "0", "0", "0", "2"]
    assert push(home, receiver, "--again") == 0
    assert received(receiver) == Counter(ids(0, 1, 2)) + Counter(ids(0))


@pytest.mark.slow
def test_predictions_with_their_actuals_as_a_training_set(
    home: InBigQuery, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    home.package = "odd"
    truth = [{"id": "a-0", "label": "no"}, {"id": "old-0", "label": "yes"}]
    corrected = [{"id": "a-0", "label": "yes"}]
    home.put(
        packed("scores", [scored(0.25, 0.75, prefix="a")]),
        packed("scores", [scored(0.5, prefix="old")], first=10, at=NOW - 4 * DAY),
        plain("scores", {"actual": {"cases": truth}}, message_id="t", at=NOW - DAY / 24),
        plain("scores", {"actual": {"cases": corrected}}, message_id="u"),
    )
    home.run()
    home.put(packed("scores", [scored(0.25, 0.75, prefix="a")]), name="again")
    home.run(files=str(home.input / "again.avro"))  # once more, in another file
    assert home.row_ids("scores").count("pub-0:0") == 2
    day = f"{NOW:%Y-%m-%d}"
    sent = ("--from", "table", "--since", day, "--arize_url", receiver.url)
    assert call(home, "baseline", *sent) == 0
    out = capsys.readouterr().out
    assert "1 rows with predictions and actuals; 1 were sent" in out
    assert "left out: 1 predictions without an actual" in out
    [upload] = receiver.uploads
    [row] = upload.table.to_pylist()
    assert (row["prediction_id"], row["label"], row["label_actual"]) == ("a-0", "no", "yes")
    assert (row["score"], row["country"]) == (0.25, None)
    assert call(home, "status") == 0
    assert table_of(capsys.readouterr().out)["scores"][1] == "0"
