"""Values that Arize's SDK loses, changes or breaks on: each arrives as it was, with one type."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import pyarrow as pa
import pytest
from support import environment

from extractors import (
    ActualLabel,
    ActualScore,
    ClassScores,
    EmbeddingLink,
    EmbeddingText,
    EmbeddingVector,
    EventTime,
    Extractor,
    Feature,
    GroupId,
    ModelSettings,
    PredictionId,
    PredictionLabel,
    PredictionScore,
    Rank,
    RelevanceLabel,
    RelevanceScore,
    Row,
    ShapValue,
    Tag,
    Timestamp,
)
from pipelines.arize import ArizeAccess, Sent, Uploader
from pipelines.receiver import ArizeReceiver
from pipelines.sender import ArizeSender
from pipelines.uploads import Upload
from schemas.buffer import RowBuffer, RowShape

NOW = datetime.now(UTC).replace(microsecond=123456)


@pytest.fixture
def receiver() -> Iterator[ArizeReceiver]:
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        yield receiver


def push(
    receiver: ArizeReceiver, row: type[Row], model_type: Any, rows: list[dict[str, Any]], kind: Any
) -> Upload:
    """Check rows, send them as one batch with the real SDK, and give what arrived."""
    buffer: RowBuffer[int] = RowBuffer(RowShape.of(row, "m", model_type, "v"), False)
    moment = int(NOW.timestamp() * 1e6)
    for number, values in enumerate(rows):
        buffer.add([values], f"e-{number}", moment, moment, "", number)
    flushed = buffer.flush()
    assert flushed.refused == []
    assert flushed.batch is not None
    extractor = Extractor("m", kind, row, model_type, ModelSettings(), iter, None)
    sent = Sent()
    sender = ArizeSender(extractor, Uploader(ArizeAccess(receiver.url)))
    sender.send(pa.Table.from_batches([flushed.batch]), "1", sent)
    assert (sent.refused, sent.rows) == ([], len(rows))
    return receiver.uploads[-1]


def column(upload: Upload, name: str) -> list[Any]:
    return list(upload.table[name].to_pylist())


class Features(Row, default_role=Feature):
    id: Annotated[str, PredictionId]
    number: int | None = None
    share: float | None = None
    text: str | None = None
    flag: bool | None = None
    words: list[str] | None = None
    grade: Literal["a", "b"] | None = None
    channel: Annotated[str | None, Tag] = None
    tagged: Annotated[bool | None, Tag] = None
    number_shap: Annotated[float | None, ShapValue("number")] = None
    vector: Annotated[list[float] | None, EmbeddingVector("review")] = None
    review: Annotated[str | None, EmbeddingText("review")] = None
    picture: Annotated[str | None, EmbeddingLink("review")] = None
    label: Annotated[str | None, PredictionLabel] = None
    score: Annotated[float | None, PredictionScore] = None


FULL = {
    "number": 2**53 + 1,
    "share": 0.1,
    "text": "nan",
    "flag": False,
    "words": ["x", ""],
    "grade": "a",
    "channel": "None",
    "tagged": False,
    "number_shap": 0.0,
    "vector": [0.0, 1.5],
    "review": "NaN",
    "picture": "gs://b/x",
    "label": "0",
    "score": 0.0,
}
NAMED = [name for name in FULL if name != "label"]


@pytest.mark.parametrize("nulls_first", [True, False])
def test_nulls_beside_values_stay_nulls(receiver: ArizeReceiver, nulls_first: bool) -> None:
    rows = [{"id": "full", **FULL}, {"id": "empty", "label": "1"}]
    upload = push(receiver, Features, "binary", rows[::-1] if nulls_first else rows, "prediction")
    found = {row["prediction_id"]: row for row in upload.table.to_pylist()}
    assert {name: found["full"][name] for name in FULL} == FULL
    assert {name: found["empty"][name] for name in NAMED} == dict.fromkeys(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_a_column_of_nulls_keeps_its_type_or_is_left_out(
    receiver: ArizeReceiver, name: str
) -> None:
    """Of SHAP values and embeddings the SDK refuses such columns; the batch goes without them."""
    rows = [{"id": f"i-{n}", **FULL, name: None} for n in range(3)]
    full = push(receiver, Features, "binary", [{"id": "f", **FULL}], "prediction")
    upload = push(receiver, Features, "binary", rows, "prediction")
    left_out = {"number_shap": {"number_shap"}, "vector": {"vector", "review", "picture"}}
    gone = left_out.get(name, {name} if name in ("review", "picture") else set())
    assert set(full.table.column_names) - set(upload.table.column_names) == gone
    for each in upload.table.column_names:
        assert upload.table[each].type == full.table[each].type
    if not gone:
        assert column(upload, name) == [None] * 3


@pytest.mark.parametrize("words", [[[], []], [["a"], []], [[], None], [["a", "b"], None]])
def test_lists_of_text_also_where_all_are_empty(receiver: ArizeReceiver, words: list[Any]) -> None:
    rows = [{"id": str(n), "label": "x", "words": value} for n, value in enumerate(words)]
    upload = push(receiver, Features, "binary", rows, "prediction")
    assert column(upload, "words") == words
    assert upload.table["words"].type == pa.list_(pa.string())


def test_whole_numbers_never_become_others(receiver: ArizeReceiver) -> None:
    """A null among integers would make pandas turn all of them into floats."""
    numbers = [2**63 - 1, None, -(2**63), 0, 2**53 + 1]
    rows = [{"id": str(n), "label": "x", "number": value} for n, value in enumerate(numbers)]
    upload = push(receiver, Features, "binary", rows, "prediction")
    assert column(upload, "number") == numbers
    assert upload.table["number"].type == pa.int64()


class Number(Row):
    id: Annotated[str, PredictionId]
    value: Annotated[float, ActualLabel]


class Class_(Row):
    id: Annotated[str, PredictionId]
    value: Annotated[Literal["0", "no", "False"], ActualLabel]
    score: Annotated[float | None, ActualScore] = None


class Classes(Row):
    id: Annotated[str, PredictionId]
    value: Annotated[ClassScores, ActualScore]


class Relevance(Row):
    id: Annotated[str, PredictionId]
    value: Annotated[float, RelevanceScore]
    labels: Annotated[list[str] | None, RelevanceLabel] = None


@pytest.mark.parametrize(
    ("row", "model_type", "values"),
    [
        (Number, "regression", [0.0, 1.5, -0.0]),
        (Class_, "binary", ["0", "no", "False"]),
        (Class_, "categorical", ["0"]),
        (Relevance, "ranking", [0.0, 1.0]),
    ],
)
def test_actuals_that_are_false_or_zero(
    receiver: ArizeReceiver, row: type[Row], model_type: str, values: list[Any]
) -> None:
    """The SDK's `log_stream` drops these; batches must not."""
    rows = [{"id": str(n), "value": value} for n, value in enumerate(values)]
    upload = push(receiver, row, model_type, rows, "actual")
    assert column(upload, "value") == values
    assert "timestamp_column_name" not in upload.columns


def test_an_actual_score_of_zero_beside_nulls(receiver: ArizeReceiver) -> None:
    rows = [{"id": "a", "value": "no", "score": 0.0}, {"id": "b", "value": "no"}]
    assert column(push(receiver, Class_, "binary", rows, "actual"), "score") == [0.0, None]


def test_classes_that_turned_out_false(receiver: ArizeReceiver) -> None:
    """Predictions and actuals of many classes are batches of their own: nulls break the SDK."""
    rows = [{"id": "a", "value": {"x": 0.0, "y": 0.0}}, {"id": "b", "value": {"x": 1.0}}]
    assert column(push(receiver, Classes, "multiclass", rows, "actual"), "value") == [
        [{"class_name": "x", "score": 0.0}, {"class_name": "y", "score": 0.0}],
        [{"class_name": "x", "score": 1.0}],
    ]


def test_lists_of_relevance_beside_nulls(receiver: ArizeReceiver) -> None:
    rows = [{"id": "a", "value": 0.0, "labels": ["x"]}, {"id": "b", "value": 1.0}]
    upload = push(receiver, Relevance, "ranking", rows, "actual")
    assert column(upload, "labels") == [["x"], None]


class Ranked(Row):
    id: Annotated[str, PredictionId]
    group: Annotated[str, GroupId]
    rank: Annotated[int, Rank]
    at: Annotated[Timestamp, EventTime]
    score: Annotated[float | None, PredictionScore] = None


def test_ranks_groups_and_times_to_the_microsecond(receiver: ArizeReceiver) -> None:
    times = [NOW, NOW - timedelta(days=400), NOW + timedelta(days=20)]
    rows = [
        {"id": str(n), "group": "0", "rank": 1 + 99 * (n % 2), "at": at}
        for n, at in enumerate(times)
    ]
    upload = push(receiver, Ranked, "ranking", rows, "prediction")
    assert column(upload, "at") == times
    assert column(upload, "rank") == [1, 100, 1]
    assert upload.table["rank"].type == pa.int64()
    assert upload.columns["timestamp_column_name"] == "at"
