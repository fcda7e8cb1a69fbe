"""Our checks of rows against the installed SDK's, for row classes and rows that nobody wrote.

What we let through, the SDK takes, as a batch and row by row: so a batch is never refused for one
row. What our rules refuse, it refuses, but for what Arize would drop or miscount later.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, cast

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict
from sdk import sdk_refusal
from test_rules import AMOUNT, ID, LEAST, NOW, VALUES, VECTOR

from extractors import (
    ActualLabel,
    ClassScores,
    EmbeddingLink,
    EmbeddingText,
    EmbeddingVector,
    Feature,
    PredictionId,
    PredictionLabel,
    PredictionScore,
    RelevanceLabel,
    RelevanceScore,
    Row,
    ShapValue,
    TableOnly,
    Tag,
)
from pipelines.frames import apart
from schemas import InvalidExtractorError
from schemas.arize import check_columns
from schemas.buffer import RowBuffer, RowShape
from schemas.columns import columns_of
from schemas.roles import Role

ROLES = [
    *(Feature, Tag, TableOnly, PredictionScore, RelevanceLabel, RelevanceScore),
    *(ShapValue("amount"), EmbeddingVector("e"), EmbeddingText("e"), EmbeddingLink("e")),
    *(EmbeddingVector("f"), EmbeddingText("f")),
]
# Beside what `VALUES` has at the limits.
MORE: dict[Any, Any] = {
    str: st.text(max_size=8),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    list[str]: st.lists(st.text(max_size=3), max_size=3),
    list[float]: st.lists(st.floats(-1e6, 1e6), max_size=4),
}
# What we refuse and the SDK takes: Arize would drop it, or count it under no name.
OURS = ("characters that are not all blank", "a class label must not be empty")


@dataclass(frozen=True)
class Made:
    """A row class, and rows of it."""

    model_type: Any
    kind: Any
    row: type[Row]
    rows: list[dict[str, Any]]


@st.composite
def made(draw: st.DrawFn) -> Made:
    model_type, kind = draw(st.sampled_from(sorted(LEAST)))
    least = {"id": ID, **LEAST[model_type, kind]}
    if kind == "prediction":
        least["amount"] = AMOUNT
    columns: dict[str, tuple[Any, Role]] = {name: c[:2] for name, c in least.items()}
    taken = {c[1].kind for c in least.values()}
    for number in range(draw(st.integers(0, 5))):
        role = draw(st.sampled_from(ROLES))
        if role.kind in taken - {"feature"}:
            continue
        annotation = draw(st.sampled_from(list(VALUES)))
        columns[f"c{number}"] = (annotation | None if draw(st.booleans()) else annotation, role)
    if any(role.kind in ("embedding_text", "embedding_link") for _, role in columns.values()):
        columns["vector"] = VECTOR[:2]
    annotations = {name: Annotated[kind_, role] for name, (kind_, role) in columns.items()}
    config = ConfigDict(use_attribute_docstrings=False)
    body = {"__annotations__": annotations, "model_config": config}
    row = cast(type[Row], type(Row)("Made_", (Row,), body))
    rows = [
        {name: draw(_value(kind_)) for name, (kind_, _) in columns.items()}
        for _ in range(draw(st.integers(1, 5)))
    ]
    return Made(model_type, kind, row, rows)


def _value(annotation: Any) -> Any:
    for plain, values in VALUES.items():
        nullable = annotation == (plain | None) and annotation != plain
        if annotation == plain or nullable:
            found = st.sampled_from(values)
            if plain in MORE:
                found = found | MORE[plain]
            return found | st.none() if nullable else found
    raise AssertionError(annotation)


def flush(case: Made, rows: list[dict[str, Any]], rules: bool = True) -> Any:
    shape = RowShape.of(case.row, "m", case.model_type, "v")
    if not rules:
        shape = replace(shape, rules=(), outcomes=())
    buffer: RowBuffer[int] = RowBuffer(shape, False)
    moment = int(NOW.timestamp() * 1e6)
    for number, row in enumerate(rows):
        buffer.add([row], f"e-{number}", moment, moment, "", number)
    return buffer.flush()


def disagreements(case: Made) -> list[str]:
    """What the SDK refuses of rows that we let through, and takes of those that we refuse."""
    columns = columns_of(case.row)
    try:
        check_columns(columns, case.model_type, case.kind)
    except InvalidExtractorError:
        assume(False)
    found = []
    checked = flush(case, case.rows)
    if checked.batch is not None:
        let_through = pa.Table.from_batches([checked.batch])
        alone = [let_through.slice(position, 1) for position in range(let_through.num_rows)]
        together = apart(let_through, columns, case.model_type)
        refusals = [
            sdk_refusal(t, columns, case.model_type, case.kind) for t in (*together, *alone)
        ]
        found += [f"only the SDK: {refusal}" for refusal in refusals if refusal]
    for number, error in checked.refused:
        without = flush(case, [case.rows[number]], rules=False)
        if without.batch is None:
            continue  # by its type: no table could hold it
        refused = pa.Table.from_batches([without.batch])
        taken = not sdk_refusal(refused, columns, case.model_type, case.kind)
        if taken and not error.cause.endswith(OURS):
            found.append(f"only we: {error.cause}")
    return found


LIBERAL = [HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=50, suppress_health_check=LIBERAL)
@given(made())
def test_we_and_the_sdk_agree(case: Made) -> None:
    assert disagreements(case) == []


@pytest.mark.slow
@settings(max_examples=3000, suppress_health_check=LIBERAL)
@given(made())
def test_we_and_the_sdk_agree_thousands_of_times(case: Made) -> None:
    assert disagreements(case) == []


class _Labelled(Row):
    id: Annotated[str, PredictionId]
    label: Annotated[str, ActualLabel]


@pytest.mark.parametrize("id_", ["\0", "\0\0", "a\0", " \0", "x" * 512 + "\0"])
def test_null_characters_at_the_end_of_an_id_are_none_to_the_sdk(id_: str) -> None:
    case = Made("categorical", "actual", _Labelled, [{"id": id_, "label": "b"}])
    assert disagreements(case) == []
    assert len(flush(case, case.rows).refused) == (id_ != "a\0")


class _Explained(Row, default_role=Feature):
    id: Annotated[str, PredictionId]
    amount: float
    scores: Annotated[ClassScores, PredictionScore]
    shap: Annotated[float | None, ShapValue("amount")] = None


def test_rows_of_a_multiclass_model_with_shap_values_and_without_are_sent_apart() -> None:
    row = {"id": "i", "amount": 1.0, "scores": {"a": 1.0}}
    rows = [{**row, "shap": value} for value in (None, 0.5, None, 0.0)]
    case = Made("multiclass", "prediction", _Explained, rows)
    batch = pa.Table.from_batches([flush(case, rows).batch])
    columns = columns_of(_Explained)
    assert sdk_refusal(batch, columns, "multiclass") == "InvalidRecord"
    parts = apart(batch, columns, "multiclass")
    assert [part["shap"].to_pylist() for part in parts] == [[0.5, 0.0], [None, None]]
    assert disagreements(case) == []


class _Embedded(Row):
    id: Annotated[str, PredictionId]
    label: Annotated[str, PredictionLabel]
    vector: Annotated[list[float], EmbeddingVector("e")]
    tokens: Annotated[list[str] | None, EmbeddingText("e")]


@pytest.mark.parametrize("tokens", [[[]], [[], None], [[], ["a"]], [None, None]])
def test_a_batch_whose_token_lists_are_all_empty_is_taken(tokens: list[Any]) -> None:
    row = {"label": "b", "vector": [0.1, 0.2]}
    rows = [{**row, "id": f"i{number}", "tokens": each} for number, each in enumerate(tokens)]
    case = Made("categorical", "prediction", _Embedded, rows)
    assert flush(case, rows).refused == []
    assert disagreements(case) == []


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_one_bad_row_would_have_cost_its_whole_batch(bad: int) -> None:
    """What all this is for."""
    rows = [
        {"id": f"i-{n}", "label": "x", "amount": 1.0, "tag": "x" * (20_001 if n == bad else 1)}
        for n in range(5)
    ]
    body = {
        "__annotations__": {
            **{name: Annotated[c[0], c[1]] for name, c in {"id": ID, "amount": AMOUNT}.items()},
            "label": Annotated[str, LEAST["binary", "prediction"]["label"][1]],
            "tag": Annotated[str, Tag],
        },
        "model_config": ConfigDict(use_attribute_docstrings=False),
    }
    case = Made("binary", "prediction", cast(type[Row], type(Row)("Bad_", (Row,), body)), rows)
    columns = columns_of(case.row)
    whole = pa.Table.from_batches([flush(case, rows, rules=False).batch])
    assert sdk_refusal(whole, columns, "binary") == "InvalidTagLength"
    checked = flush(case, rows)
    assert [number for number, _ in checked.refused] == [bad]
    assert sdk_refusal(pa.Table.from_batches([checked.batch]), columns, "binary") == ""
