"""`weighbridge arize push` and `status`: what was never sent goes once, and what became of it."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from support import NOW, Home, environment, packed, plain, scored

from pipelines import arize
from pipelines.arize import ATTEMPTS
from pipelines.cli import _main
from pipelines.files import FileRef
from pipelines.main import run
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver, Fault
from pipelines.tables import Tables
from pipelines.undelivered import DAY_MICROS, undelivered

DAY = timedelta(days=1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArizeReceiver]:
    monkeypatch.setattr(arize, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "150")
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        yield receiver


def put(home: Home, first: int, days: int = 0, count: int = 2, push: str = "") -> None:
    """Run envelopes of a day into the tables: only there, or on to a receiver."""
    bodies = [scored(0.5, prefix=f"c{first + i}") for i in range(count)]
    home.put(packed("scores", bodies, first=first, at=NOW - days * DAY), name=str(first))
    arize = ("--arize_url", push) if push else ("--no_arize",)
    run(home.arguments(*arize, files=str(home.input / f"{first}.avro")))


def call(home: Home, command: str, *more: str) -> int:
    place = ["--home", str(home.folder), "--extractors_package", home.package]
    return _main(["arize", command, *place, *more])


def push(home: Home, receiver: ArizeReceiver, *more: str) -> int:
    return call(home, "push", "--model", "scores", "--arize_url", receiver.url, *more)


def received(receiver: ArizeReceiver) -> Counter[str]:
    return Counter(
        id_ for upload in receiver.uploads for id_ in upload.table["prediction_id"].to_pylist()
    )


def table_of(out: str) -> dict[str, list[str]]:
    """Cells of the printed table by its first column."""
    lines = [line.split() for line in out.splitlines() if line.startswith(" ")]
    return {line[0]: line[1:] for line in lines if line}


def test_a_table_is_sent_once_and_what_was_delivered_never_again(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    put(home, 0, days=3)
    put(home, 10, days=1, push=receiver.url)
    put(home, 20)
    receiver_has = received(receiver)
    assert receiver_has == {"c10-0": 1, "c11-0": 1}
    assert call(home, "status", "--model", "scores") == 0
    # committed, delivered, waiting, refused, too late, never sent
    assert table_of(capsys.readouterr().out)["scores"] == ["6", "2", "0", "0", "0", "4"]
    assert push(home, receiver) == 0
    assert "scores: 4 rows were never sent; 4 rows pushed now" in capsys.readouterr().out
    everything = {f"c{i}-0": 1 for i in (0, 1, 10, 11, 20, 21)}
    assert received(receiver) == everything
    assert push(home, receiver) == 0
    assert "scores: 0 rows were never sent; 0 rows pushed now" in capsys.readouterr().out
    assert received(receiver) == everything
    assert call(home, "status") == 0
    assert table_of(capsys.readouterr().out)["scores"] == ["6", "6", "0", "0", "0", "0"]
    assert Outbox(home.folder).entries() == set()


def test_a_range_of_days_is_sent_and_no_other(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    for first, days in ((0, 5), (10, 3), (20, 1)):
        put(home, first, days)
    middle = f"{NOW - 3 * DAY:%Y-%m-%d}"
    assert push(home, receiver, "--since", middle, "--until", middle) == 0
    assert received(receiver) == {"c10-0": 1, "c11-0": 1}
    assert push(home, receiver, "--since", middle) == 0
    assert received(receiver) == {f"c{i}-0": 1 for i in (10, 11, 20, 21)}
    assert push(home, receiver, "--since", middle, "--until", middle, "--again") == 0
    assert received(receiver)["c10-0"] == 2
    assert push(home, receiver) == 0
    assert received(receiver)["c0-0"] == 1


def test_what_does_not_arrive_waits_in_the_outbox_and_the_next_run_sends_it(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    put(home, 0)
    receiver.fail(Fault(status=503), times=ATTEMPTS)
    assert push(home, receiver) == 1
    assert "waiting in the outbox: 2 rows" in capsys.readouterr().out
    assert call(home, "status") == 1
    out = capsys.readouterr().out
    assert table_of(out)["scores"] == ["2", "0", "2", "0", "0", "0"]
    assert "scores: the oldest waiting rows were committed" in out
    assert "HTTP 503" in out
    place = ["--home", str(home.folder), "--extractors_package", home.package]
    assert _main(["ledger", *place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arize"]["scores"]["waiting"] == 2
    report = run(home.arguments("--arize_url", receiver.url))
    assert report.undelivered_rows == 0
    assert received(receiver) == {"c0-0": 1, "c1-0": 1}
    assert call(home, "status") == 0
    assert "HTTP 503" not in capsys.readouterr().out  # a delivery came after it


def test_refused_rows_and_their_reasons_are_told(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.fail(Fault(status=422), times=2)
    put(home, 0, push=receiver.url)
    assert call(home, "status") == 1
    out = capsys.readouterr().out
    assert table_of(out)["scores"] == ["2", "1", "0", "1", "0", "0"]
    assert "scores: refused 1 rows: HTTP 422" in out


def test_compaction_changes_nothing_of_what_was_delivered(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    put(home, 0, days=2, push=receiver.url)
    put(home, 10, days=2, push=receiver.url)
    put(home, 20, days=1, push=receiver.url)
    put(home, 30, days=1)
    before = received(receiver)
    table = Tables(home.folder).load("models.scores")
    table.overwrite(table.scan().to_arrow())
    assert push(home, receiver) == 0
    out = capsys.readouterr().out
    assert received(receiver) == before
    assert f"scores: not sent: rows of {NOW - DAY:%Y-%m-%d}, as some were delivered" in out
    assert call(home, "status") == 0
    assert table_of(capsys.readouterr().out)["scores"] == ["8", "6", "0", "0", "0", "2"]
    day = f"{NOW - DAY:%Y-%m-%d}"
    assert push(home, receiver, "--since", day, "--until", day, "--again") == 0
    out = capsys.readouterr().out
    assert "scores: 4 rows, sent before or not; 4 rows pushed now" in out
    assert "never sent" not in out
    assert received(receiver) == before + Counter({f"c{i}-0": 1 for i in (20, 21, 30, 31)})


@pytest.mark.parametrize("text", ["{", "[]", '{"table": "models.scores"}', '{"files": 1}'])
def test_a_file_that_is_no_entry_of_the_outbox_is_named(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    put(home, 0, 1)
    home.run()
    path = home.folder / "push/pending/zzz.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert call(home, "status") == 2
    assert f"Error: {path} is no entry of the outbox" in capsys.readouterr().err
    path.unlink()
    assert call(home, "status") == 0


def ref(name: str, day: int, rows: int) -> FileRef:
    return FileRef(f"/t/data/{name}", rows, day * DAY_MICROS, day * DAY_MICROS + 1, 0)


def test_days_are_compared_by_rows_once_files_are_gone() -> None:
    a, b, c = ref("a", 1, 10), ref("b", 1, 5), ref("c", 2, 7)
    assert undelivered([a, b, c], [a]).files == [b, c]
    compacted = ref("ab", 1, 15)
    assert undelivered([compacted, c], [a, b, c]).rows == 0
    assert undelivered([ref("ab", 1, 14), c], [a, b, c]).rows == 0  # a copy of a row was removed
    partly = undelivered([compacted, c], [a])
    assert (partly.files, partly.unclear, partly.rows) == ([c], [compacted], 12)


def test_an_actual_whose_prediction_was_received_too_long_ago_is_kept_in_the_table(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its prediction is in the table, and was delivered before the look-back began."""
    put(home, 0, days=30, push=receiver.url)
    put(home, 10, days=2, push=receiver.url)
    age_deliveries(home, 30)
    labels = [{"id": f"{name}-0", "label": "no"} for name in ("c0", "c10", "elsewhere")]
    home.put(plain("scores", {"actual": {"cases": labels}}, message_id="t"), name="t")
    run(home.arguments("--arize_url", receiver.url))
    counts = received(receiver)
    # The one of c0 came 30 days later. Nobody knows of the last; Arize leaves it out.
    assert (counts["c0-0"], counts["c10-0"], counts["elsewhere-0"]) == (1, 2, 1)
    assert len(home.rows("scores_actuals")) == 3
    told = [row for row in home.deliveries() if row["table_name"] == "models.scores_actuals"]
    assert [(row["rows"], row["rows_too_late"]) for row in told] == [(2, 1)]
    assert call(home, "status") == 0
    out = capsys.readouterr().out
    assert table_of(out)["scores_actuals"] == ["3", "2", "0", "0", "1", "0"]
    assert "scores_actuals: 1 actuals came after the look-back, and were not sent" in out


def test_a_backfill_of_predictions_and_actuals_is_joined(
    home: Home, receiver: ArizeReceiver
) -> None:
    """Arize counts from when it received the prediction: old ones that are sent now are new."""
    put(home, 0, days=40)
    truth = {"actual": {"cases": [{"id": "c0-0", "label": "no"}, {"id": "old-0", "label": "no"}]}}
    late = plain("scores", truth, message_id="t", at=NOW - 38 * DAY)
    older = {"actual": {"cases": [{"id": "older-0", "label": "no"}]}}
    home.put(late, plain("scores", older, message_id="u", at=NOW - 50 * DAY), name="t")
    home.run("--no_arize", files=str(home.input / "t.avro"))
    assert push(home, receiver) == 0
    # Nothing older than 40 days was ever received: what turned out before is joined to nothing.
    assert received(receiver) == {"c0-0": 2, "c1-0": 1, "old-0": 1}


def age_deliveries(home: Home, days: int) -> None:
    """As if the oldest predictions had been delivered when they were made."""
    table = Tables(home.folder).load("weighbridge.deliveries")
    rows = table.scan().to_arrow()
    times = rows["event_time"].to_pylist()
    first = min(rows["first_event_time"].to_pylist())
    moved = [
        time - timedelta(days=days) if span == first else time
        for time, span in zip(times, rows["first_event_time"].to_pylist(), strict=True)
    ]
    position = rows.schema.get_field_index("event_time")
    kind = rows.schema.field(position).type

    table.overwrite(rows.set_column(position, "event_time", pa.array(moved, kind)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["push"], "Missing option '--model'"),
        (["push", "--model=scores", "--since=yesterday"], "--since"),
        (["push", "--model=scores", "--since=2026-02-01", "--until=2026-01-01"], "is after"),
        (["push", "--model=nobody"], "no model nobody is registered in odd: "),
        (["push", "--model=scores"], "holds no tables yet"),
        (["status", "--model=nobody"], "no model nobody is registered in odd: "),
        (["status"], "holds no tables yet"),
    ],
)
def test_wrong_usage(
    home: Home,
    receiver: ArizeReceiver,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    place = ["--home", str(home.folder), "--extractors_package", home.package]
    assert _main(["arize", *arguments, *place]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('model_type="untyped"', 'has model_type="untyped"'),
        ('model_type="regression", settings=ModelSettings(arize="off")', 'has arize="off"'),
    ],
)
def test_models_that_are_kept_out_of_arize(
    home: Home,
    receiver: ArizeReceiver,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    said: str,
) -> None:
    package = tmp_path / f"kept_{len(settings)}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text(
        "from typing import Annotated\n"
        "from extractors import ModelSettings, PredictionLabel, Row, extractor\n\n"
        "class Guess(Row):\n    value: Annotated[float, PredictionLabel]\n\n"
        f'@extractor("guess", row=Guess, {settings})\n'
        "def extract(envelope):\n    yield envelope.request\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    home.package = package.name
    assert call(home, "push", "--model", "guess") == 2
    assert said in capsys.readouterr().err


def test_nothing_is_sent_with_a_wrong_key(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    put(home, 0)
    with environment(ARIZE_API_KEY="wrong"):
        assert push(home, receiver) == 2
    assert "Arize refuses the key or a space" in capsys.readouterr().err
    assert push(home, receiver) == 0
    assert received(receiver) == {"c0-0": 1, "c1-0": 1}
