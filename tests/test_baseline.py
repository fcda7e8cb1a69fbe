"""`weighbridge arize baseline`: training and validation sets, from files and from tables."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import NOW, Home, environment, packed, plain, scored

from pipelines import arize
from pipelines.arize import ATTEMPTS
from pipelines.cli import _main
from pipelines.receiver import ArizeReceiver, Fault


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, package="shop")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArizeReceiver]:
    monkeypatch.setattr(arize, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "150")
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        yield receiver


def call(home: Home, receiver: ArizeReceiver, source: Any, *more: str) -> int:
    own = ["--home", str(home.folder), "--extractors_package", home.package]
    own += ["--arize_url", receiver.url, "--from", str(source)]
    return _main(["arize", "baseline", *own, *more])


def payments(count: int = 3, **changes: list[Any]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        "payment_id": [f"p-{i}" for i in range(count)],
        "paid_at": [NOW - timedelta(days=i) for i in range(count)],
        "amount": [0.0, *[10.5] * (count - 1)],
        "currency": ["EUR"] * count,
        "card_country": ["NO"] * count,
        "item_count": list(range(count)),
        "channel": [None, *["web"] * (count - 1)],
        "verdict": ["fraud"] * count,
        "score": [0.0, *[0.9] * (count - 1)],
        "verdict_actual": ["legitimate"] * count,
        "comment": ["x"] * count,
    }
    return pa.table({k: v for k, v in {**columns, **changes}.items() if v is not None})


def written(home: Home, table: pa.Table) -> Path:
    path = home.folder.parent / "set.parquet"
    pq.write_table(table, path)
    return path


def test_a_training_set_from_a_file(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(home, payments())
    assert call(home, receiver, path, "--model=payment-fraud", "--model_version=7") == 0
    out = capsys.readouterr().out
    assert "3 rows with predictions and actuals; 3 were sent" in out
    assert "columns that are not sent: comment" in out
    [upload] = receiver.uploads
    assert (upload.environment, upload.batch_id) == ("TRAINING", "")
    assert (upload.model_id, upload.model_version) == ("payment-fraud", "7")
    assert upload.columns["actual_label_column_name"] == "verdict_actual"
    assert upload.columns["prediction_label_column_name"] == "verdict"
    assert upload.columns["timestamp_column_name"] == "paid_at"
    first = upload.table.to_pylist()[0]
    assert (first["prediction_id"], first["amount"], first["score"]) == ("p-0", 0.0, 0.0)
    assert (first["verdict"], first["verdict_actual"]) == ("fraud", "legitimate")
    assert "comment" not in upload.table.column_names
    [told] = home.deliveries()
    assert (told["environment"], told["outcome"], told["rows"]) == ("training", "delivered", 3)
    assert told["table_name"] == "set.parquet"


def test_a_validation_set_has_a_name(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    table = payments().append_column("model_version", pa.array(["1", "1", "2"]))
    path = written(home, table)
    validation = ("--model=payment-fraud", "--environment=validation")
    assert call(home, receiver, path, *validation) == 2
    assert "--batch_id names a validation set" in capsys.readouterr().err
    assert call(home, receiver, path, *validation, "--batch_id=spring") == 0
    found = {u.model_version: u.table["prediction_id"].to_pylist() for u in receiver.uploads}
    assert found == {"1": ["p-0", "p-1"], "2": ["p-2"]}
    assert {(u.environment, u.batch_id) for u in receiver.uploads} == {("VALIDATION", "spring")}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"amount": None}, "columns are missing: amount (Feature, double); add them to the file"),
        (
            {"verdict_actual": None},
            "columns are missing: verdict_actual (ActualLabel, string); add them to the file",
        ),
        ({"amount": ["a", "b", "c"]}, "column amount"),
        ({"score": [0.5, 1.5, 2.5]}, "score"),
        ({"verdict_actual": ["fraud", None, "maybe"]}, "column verdict_actual"),
        ({"payment_id": ["a", "  ", "c"]}, "Arize takes 1 to 512 characters"),
        ({"paid_at": [datetime(2026, 1, 1)] * 3}, "paid_at"),
        ({"channel": ["x" * 20_001, None, None]}, "Arize takes tags of up to 20000 characters"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_with_a_file_is_said_before_anything_is_sent(
    home: Home,
    receiver: ArizeReceiver,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    said: str,
) -> None:
    path = written(home, payments(**changes))
    assert call(home, receiver, path, "--model=payment-fraud") == 2
    err = capsys.readouterr().err
    assert said in err
    assert "maybe" not in err  # no value of the file
    assert "Traceback" not in err
    assert receiver.requests == 0


def test_causes_come_with_how_many_rows_and_the_first(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(home, payments(verdict_actual=["fraud", "maybe", "who knows"]))
    assert call(home, receiver, path, "--model=payment-fraud", "--dry_run") == 2
    assert "2 rows, the first is row 2" in capsys.readouterr().err


RANKED = {
    "prediction_id": ["a", "b"],
    "search_id": ["s", "s"],
    "rank": [1, 2],
    "score": [0.9, 0.0],
    "query_length": [3, 0],
    "price": [1.5, 0.0],
    "categories": [["x", "y"], []],
    "market": ["no", "se"],
    "outcome": [["click"], ["none"]],
    "relevance": [1.0, 0.0],
}
TOPICS = {
    "prediction_id": ["a", "b"],
    "text": ["hello", None],
    "vector": [[0.1, 0.2], None],
    "characters": [5, 0],
    "language": ["en", "en"],
    "scores": [[("a", 0.25), ("b", 0.75)], [("a", 0.0)]],
    "topic": ["b", "a"],
    "topics": [[("a", 0.0), ("b", 1.0)], [("a", 1.0)]],
}


def test_a_ranking_model(home: Home, receiver: ArizeReceiver) -> None:
    path = written(home, pa.table(RANKED))
    assert call(home, receiver, path, "--model=product-ranking") == 0
    [upload] = receiver.uploads
    assert (upload.model_type, upload.environment) == ("RANKING", "TRAINING")
    rows = upload.table.to_pylist()
    assert [row["outcome"] for row in rows] == [["click"], ["none"]]
    assert [(row["rank"], row["relevance"], row["rating"]) for row in rows] == [
        (1, 1.0, None),
        (2, 0.0, None),
    ]
    assert [row["categories"] for row in rows] == [["x", "y"], []]


@pytest.mark.parametrize("as_map", [True, False])
def test_a_model_of_many_classes(home: Home, receiver: ArizeReceiver, as_map: bool) -> None:
    """Class scores as a map, or as Arize takes them: a list of names and scores."""
    kind: pa.DataType = pa.map_(pa.string(), pa.float64())
    columns = dict(TOPICS)
    if not as_map:
        kind = pa.list_(pa.struct([("class_name", pa.string()), ("score", pa.float64())]))
        for name in ("scores", "topics"):
            columns[name] = [
                [{"class_name": c, "score": s} for c, s in value] for value in TOPICS[name]
            ]
    arrays = {
        name: pa.array(values, kind) if name in ("scores", "topics") else pa.array(values)
        for name, values in columns.items()
    }
    path = written(home, pa.table(arrays))
    assert call(home, receiver, path, "--model=review-topic-en") == 0
    [upload] = receiver.uploads
    assert upload.model_type == "MULTI_CLASS"
    rows = upload.table.to_pylist()
    assert rows[0]["topics"] == [
        {"class_name": "a", "score": 0.0},
        {"class_name": "b", "score": 1.0},
    ]
    assert [row["vector"] for row in rows] == [[0.1, 0.2], None]


def test_the_models_own_tables_for_some_days(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    home.package = "odd"
    early = NOW - timedelta(days=4)
    truth = [{"id": "a-0", "label": "no"}, {"id": "old-0", "label": "yes"}]
    corrected = [{"id": "a-0", "label": "yes"}]
    home.put(
        packed("scores", [scored(0.25, 0.75, prefix="a")]),
        packed("scores", [scored(0.5, prefix="old")], first=10, at=early),
        plain("scores", {"actual": {"cases": truth}}, message_id="t", at=NOW - timedelta(hours=1)),
        plain("scores", {"actual": {"cases": corrected}}, message_id="u"),
    )
    home.run("--no_arize")
    day = f"{NOW:%Y-%m-%d}"
    assert call(home, receiver, "table", "--model=scores", "--since", day, "--dry_run") == 0
    assert receiver.requests == 0
    assert call(home, receiver, "table", "--model=scores", "--since", day) == 0
    out = capsys.readouterr().out
    assert "1 rows with predictions and actuals; 1 were sent" in out
    assert "left out: 1 predictions without an actual" in out
    [upload] = receiver.uploads
    [row] = upload.table.to_pylist()
    assert (row["prediction_id"], row["label"], row["label_actual"]) == ("a-0", "no", "yes")
    assert (row["score"], row["country"]) == (0.25, None)
    assert upload.columns["actual_label_column_name"] == "label_actual"
    # Neither is a delivery of the table's rows: these are still to be sent to production.
    status = ["arize", "status", "--home", str(home.folder), "--extractors_package", "odd"]
    assert _main([*status, "--model=scores"]) == 0
    cells = [line.split() for line in capsys.readouterr().out.splitlines() if "scores " in line]
    assert cells[0] == ["scores", "3", "0", "0", "0", "0", "3"]


def test_what_is_not_taken_is_said(
    home: Home, receiver: ArizeReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(home, payments())
    receiver.fail(Fault(status=503), times=ATTEMPTS)
    assert call(home, receiver, path, "--model=payment-fraud") == 1
    assert "not all was sent: HTTP 503" in capsys.readouterr().err
    assert [row["outcome"] for row in home.deliveries()] == ["undelivered"]
    with environment(ARIZE_API_KEY="wrong"):
        assert call(home, receiver, path, "--model=payment-fraud") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from=nowhere.parquet"], "there is no file nowhere.parquet; or write table"),
        (["--from=table"], "holds no tables yet"),
        (["--from=set.csv", "--since=2026-01-01"], "a file is sent whole"),
        (["--from=set.csv"], "cannot be read as Parquet"),
    ],
)
def test_wrong_usage(
    home: Home,
    receiver: ArizeReceiver,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(home.folder.parent)
    Path("set.csv").write_text("a,b\n")
    own = ["--home", str(home.folder), "--extractors_package", "shop", "--model=payment-fraud"]
    assert _main(["arize", "baseline", *own, *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
