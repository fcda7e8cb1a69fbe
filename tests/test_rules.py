import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, cast

import pyarrow as pa
import pytest
from arize.constants import ml as limits
from pydantic import BaseModel, ConfigDict

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
    ModelVersion,
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
from pipelines.spaces import API_KEY, SPACE_ID
from schemas import InvalidExtractorError
from schemas.arize import check_columns
from schemas.buffer import Flushed, RowBuffer, RowShape
from schemas.columns import columns_of
from schemas.roles import Role

NOW = datetime.now(UTC)
_NUMBERS = itertools.count()
Batch = pa.RecordBatch


class Color(StrEnum):
    RED = "red"
    NONE = ""


class Card(BaseModel):
    country: str


# Values at, below and above the limits that Arize has for one role or another.
VALUES: dict[Any, list[Any]] = {
    str: ["a", "", " \t", "nan", "é😀", "x" * 512, "x" * 513, "x" * 20_000, "x" * 20_001],
    int: [1, 0, -1, 100, 101, 2**63 - 1],
    float: [1.0, 0.0, -1.0, 1e300],
    bool: [True, False],
    Timestamp: [NOW],
    date: [NOW.date()],
    bytes: [b"a", b""],
    list[str]: [["a", "b"], ["a"], [], [""], ["a", ""]],
    list[str | None]: [["a", "b"], [None], ["a", None]],
    list[float]: [[0.1, 0.2], [0.1], [], [0.0] * 20_000, [0.0] * 20_001],
    list[float | None]: [[0.1, 0.2], [0.1, None]],
    tuple[float, ...]: [[0.1, 0.2, 0.3]],
    list[int]: [[1, 2]],
    ClassScores: [
        *({"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.2}, {}, {"": 1.0}, {"a": -0.1}),
        *({"a": 1.1}, {"x" * 100: 1.0}, {"x" * 101: 1.0}, {"a": 0.0, "b": 0.99}),
        {f"c{n}": 0.0 for n in range(500)},
        {f"c{n}": 0.0 for n in range(501)},
    ],
    Literal["x", "y"]: ["x", "y"],
    Literal[1, 2]: [1, 2],
    Color: ["red", ""],
    Card: [Card(country="NZ")],
}
ROLES = [
    *(Feature, Tag, PredictionId, EventTime, ModelVersion, PredictionLabel, PredictionScore),
    *(ActualLabel, ActualScore, GroupId, Rank, RelevanceLabel, RelevanceScore),
    *(ShapValue("amount"), EmbeddingVector("e"), EmbeddingText("e"), EmbeddingLink("e")),
]
# The least that the model type needs, with a value of each.
LEAST: dict[tuple[str, str], dict[str, tuple[Any, Role, Any]]] = {
    ("regression", "prediction"): {"label": (float, PredictionLabel, 1.5)},
    ("regression", "actual"): {"label": (float, ActualLabel, 1.5)},
    ("binary", "prediction"): {"label": (str, PredictionLabel, "x")},
    ("binary", "actual"): {"label": (str, ActualLabel, "x")},
    ("categorical", "prediction"): {"label": (str, PredictionLabel, "x")},
    ("categorical", "actual"): {"label": (str, ActualLabel, "x")},
    ("multiclass", "prediction"): {"label": (ClassScores, PredictionScore, {"a": 1.0})},
    ("multiclass", "actual"): {"label": (ClassScores, ActualScore, {"a": 1.0})},
    ("ranking", "prediction"): {"group": (str, GroupId, "g"), "rank": (int, Rank, 1)},
    ("ranking", "actual"): {"label": (float, RelevanceScore, 1.0)},
}
ID = (str, PredictionId, "i")
AMOUNT = (float, Feature, 1.0)
VECTOR = (list[float], EmbeddingVector("e"), [0.1, 0.2])
# What we refuse and the SDK takes: Arize would drop it later, or count it under no name.
OURS = {
    "column prediction_id: Arize takes 1 to 512 characters that are not all blank": " \t",
    "column c: Arize takes 1 to 512 characters that are not all blank": " \t",
    "column c: a class label must not be empty": "",
}


@pytest.fixture(scope="module")
def arize() -> Iterator[ArizeReceiver]:
    before = {name: os.environ.get(name) for name in (API_KEY, SPACE_ID)}
    os.environ.update({API_KEY: "k", SPACE_ID: "s"})
    with ArizeReceiver("k", "s") as receiver:
        yield receiver
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


class Case:
    """A row class with one column under test, and rows of it that differ in that column only."""

    def __init__(self, model_type: Any, kind: Any, annotation: Any, role: Role) -> None:
        self.model_type, self.kind = model_type, kind
        # One for each row class: the receiver keeps to the types that a model's columns had first.
        self.model_id = f"m-{next(_NUMBERS)}"
        least = {"id": ID, **LEAST[model_type, kind]}
        if kind == "prediction":
            least["amount"] = AMOUNT
        if role.kind in ("embedding_text", "embedding_link"):
            least["vector"] = VECTOR
        self.fixed = {n: c for n, c in least.items() if c[1].kind != role.kind or role == Feature}
        annotations = {name: Annotated[c[0], c[1]] for name, c in self.fixed.items()}
        annotations["c"] = Annotated[annotation, role]
        # Classes without source: looking for their docstrings would take nearly all the time.
        config = ConfigDict(use_attribute_docstrings=False)
        body = {"__annotations__": annotations, "model_config": config}
        self.row = cast(type[Row], type(Row)("Row_", (Row,), body))

    def check(self) -> None:
        check_columns(columns_of(self.row), self.model_type, self.kind)

    def flush(self, values: list[Any], rules: bool = True) -> Flushed[Any]:
        shape = RowShape.of(self.row, "m", self.model_type, "v")
        if not rules:
            shape = replace(shape, rules=(), outcomes=())
        buffer: RowBuffer[Any] = RowBuffer(shape, False)
        for number, value in enumerate(values):
            row = {name: column[2] for name, column in self.fixed.items()} | {"c": value}
            if "id" in row:
                row["id"] = f"i-{number}"
            moment = int(NOW.timestamp() * 1e6)
            buffer.add([row], f"e-{number}", moment, moment, "", value)
        return buffer.flush()

    def refused_by_arize(self, to: ArizeReceiver, batch: Batch) -> list[str]:
        """What the SDK refuses of a batch, by row; the receiver has the others then."""
        extractor = Extractor(
            self.model_id, self.kind, self.row, self.model_type, ModelSettings(), iter, None
        )
        uploader = Uploader(ArizeAccess(to.url), pause=lambda seconds: None)
        sender = ArizeSender(extractor, uploader)
        sent = Sent()
        sender.send(pa.Table.from_batches([batch]), "1", sent)
        assert sent.rows + len(sent.refused) == batch.num_rows
        return [error for _, error in sent.refused]


def cases(model_type: str, kind: str) -> Iterator[tuple[Case, list[Any]]]:
    """Every role with every type that is let through, and may be null if that is let through."""
    for role, annotation in itertools.product(ROLES, VALUES):
        for nullable in (False, True):
            case = Case(model_type, kind, annotation | None if nullable else annotation, role)
            try:
                case.check()
            except InvalidExtractorError:
                break
            yield case, [*VALUES[annotation], None] if nullable else VALUES[annotation]


@pytest.mark.parametrize(("model_type", "kind"), LEAST)
def test_what_our_rules_let_through_the_sdk_takes_and_what_they_refuse_it_refuses(
    model_type: str, kind: str, arize: ArizeReceiver
) -> None:
    tried = 0
    for case, values in cases(model_type, kind):
        flushed = case.flush(values)
        batch = flushed.batch
        if batch is not None:
            assert case.refused_by_arize(arize, batch) == [], case.row.model_fields["c"]
            if values[-1] is None:
                assert case.refused_by_arize(arize, batch.slice(batch.num_rows - 1)) == []
            tried += batch.num_rows
        for value, error in flushed.refused:
            if OURS.get(error.cause) == value:
                continue
            alone = case.flush([value], rules=False).batch
            assert alone is not None
            try:
                assert case.refused_by_arize(arize, alone), f"{error}: {value!r}"
            except (TypeError, ValueError):
                # The SDK's validator breaks on it, which stops a batch just as well.
                assert "null" in error.cause or model_type == "ranking"
            tried += 1
    assert tried > 100


@pytest.mark.parametrize(
    ("model_type", "kind", "annotation", "role", "values"),
    [
        ("binary", "prediction", str | None, EmbeddingText("e"), ["a", None]),
        ("binary", "prediction", str | None, EmbeddingText("e"), [None]),
        ("binary", "prediction", list[str] | None, EmbeddingText("e"), [["a"], None]),
        ("ranking", "actual", list[str], RelevanceLabel, [["a"], ["a", "b"]]),
        ("ranking", "prediction", list[str], RelevanceLabel, [["a"], ["b"]]),
    ],
)
def test_texts_and_lists_of_labels_reach_arize(
    model_type: str, kind: str, annotation: Any, role: Role, values: list[Any], arize: ArizeReceiver
) -> None:
    case = Case(model_type, kind, annotation, role)
    case.check()
    batch = case.flush(values).batch
    assert batch is not None
    assert case.refused_by_arize(arize, batch) == []


def refusals(case: Case, values: list[Any]) -> dict[int, str]:
    refused = case.flush(values).refused
    return {values.index(value): error.cause for value, error in refused}


def test_texts_are_measured_in_characters() -> None:
    tag = Case("binary", "prediction", str, Tag)
    assert refusals(tag, ["é" * 20_000, "😀" * 20_001]) == {
        1: "column c: Arize takes tags of up to 20000 characters"
    }
    id_ = Case("binary", "prediction", str, PredictionId)
    assert refusals(id_, ["😀" * 512, "😀" * 513, "  ", "\u2003", ""]) == dict.fromkeys(
        (1, 2, 3, 4),
        "column prediction_id: Arize takes 1 to 512 characters that are not all blank",
    )


def test_tokens_of_a_text_count_together() -> None:
    most = limits.MAX_RAW_DATA_CHARACTERS
    token = "x" * (most // 2)
    case = Case("binary", "prediction", list[str] | None, EmbeddingText("e"))
    assert refusals(
        case, [[token, token], [token, token, "x"], None, [], [token + token + "x"]]
    ) == {
        1: f"column c: Arize takes texts of up to {most} characters",
        4: f"column c: Arize takes texts of up to {most} characters",
    }
    nulls = Case("binary", "prediction", list[str | None], EmbeddingText("e"))
    assert refusals(nulls, [["a"], ["a", None]]) == {
        1: "column c: Arize takes no null among the tokens of a text"
    }


def test_tokens_beyond_the_limit_are_what_the_sdk_refuses(arize: ArizeReceiver) -> None:
    token = "x" * (limits.MAX_RAW_DATA_CHARACTERS // 2)
    case = Case("binary", "prediction", list[str], EmbeddingText("e"))
    fits, too_long = case.flush([[token, token]], False), case.flush([[token, token, "x"]], False)
    assert fits.batch is not None
    assert too_long.batch is not None
    assert case.refused_by_arize(arize, fits.batch) == []
    assert case.refused_by_arize(arize, too_long.batch) == [
        "the SDK's validation: InvalidValueEmbeddingRawDataTooLong"
    ]


SCORES = "column c: Arize takes class scores from 0 to 1"


@pytest.mark.parametrize(
    ("kind", "role", "value", "cause"),
    [
        ("prediction", PredictionScore, {"a": 0.5, "b": 1.0, "c": 0.0}, None),
        ("prediction", PredictionScore, {"a": 0.5, "b": 1.01}, SCORES),
        ("prediction", PredictionScore, {"a": -0.01}, SCORES),
        ("prediction", PredictionScore, {}, "column c: Arize takes 1 to 500 classes"),
        (
            "prediction",
            PredictionScore,
            {"": 0.5},
            "column c: Arize takes class names of 1 to 100 characters",
        ),
        ("actual", ActualScore, {"a": 1.0, "b": 0.0}, None),
        (
            "actual",
            ActualScore,
            {"a": 1.0, "b": 0.5},
            "column c: Arize takes 0 or 1 as actual score of a class",
        ),
    ],
)
def test_class_scores(kind: str, role: Role, value: Any, cause: str | None) -> None:
    case = Case("multiclass", kind, ClassScores, role)
    # Around others, as rules look at all lists of a batch at once.
    values = [{"a": 1.0}, value, {"b": 0.0, "c": 1.0}]
    assert refusals(case, values) == ({} if cause is None else {1: cause})


def test_the_other_rules_by_their_words() -> None:
    rank = Case("ranking", "prediction", int, Rank)
    assert refusals(rank, [1, 100, 0, 101]) == dict.fromkeys(
        (2, 3), "column c: Arize takes ranks from 1 to 100"
    )
    vector = Case("binary", "prediction", list[float | None] | None, EmbeddingVector("e"))
    assert refusals(vector, [[0.1, 0.2], None, [0.1], [], [0.1, None]]) == dict.fromkeys(
        (2, 3, 4), "column c: Arize takes vectors of 2 to 20000 finite numbers"
    )
    labels = Case("ranking", "actual", list[str | None] | None, RelevanceLabel)
    assert refusals(labels, [["a"], None, [], ["a", ""], ["a", None]]) == dict.fromkeys(
        (2, 3, 4), "column c: a relevance label must not be empty"
    )


def test_a_row_needs_something_to_count_and_an_explanation_will_do() -> None:
    label = Case("binary", "prediction", str | None, PredictionLabel)
    assert refusals(label, ["x", None]) == {1: "column c must not be null"}
    explained = Case("binary", "prediction", float | None, ShapValue("amount"))
    assert refusals(explained, [None, 0.5]) == {}  # the label is never null there
    ranked = Case("ranking", "prediction", float | None, PredictionScore)
    assert refusals(ranked, [None, 0.5]) == {}


def test_an_untyped_model_has_no_rules() -> None:
    class Free(Row):
        id: Annotated[str, PredictionId]
        label: Annotated[str | None, PredictionLabel] = None
        rank: Annotated[int, Rank] = 1000

    shape = RowShape.of(Free, "m", "untyped", "v")
    buffer: RowBuffer[None] = RowBuffer(shape, False)
    buffer.add([{"id": ""}, {"id": " "}], "e", 0, 0, "", None)
    assert (shape.rules, shape.outcomes) == ((), ())
    assert buffer.flush().refused == []
