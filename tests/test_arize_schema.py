from collections.abc import Mapping
from datetime import date
from enum import IntEnum
from typing import Annotated, Any, Literal, cast

import pytest
from arize.constants import ml as limits
from pydantic import BaseModel

from extractors import (
    ActualLabel,
    ActualScore,
    ClassScores,
    EmbeddingLink,
    EmbeddingText,
    EmbeddingVector,
    EventTime,
    Feature,
    GroupId,
    ModelVersion,
    PredictionId,
    PredictionLabel,
    PredictionScore,
    Rank,
    RelevanceLabel,
    RelevanceScore,
    Row,
    ShapValue,
    TableOnly,
    Tag,
    Timestamp,
)
from schemas import InvalidExtractorError
from schemas.arize import MODEL_TYPES, check_columns, check_model_type, schema_fields, sdk_limits
from schemas.columns import columns_of

Annotations = Mapping[str, Any]


def row_of(columns: Annotations) -> type[Row]:
    annotations = {"__annotations__": dict(columns)}
    return cast(type[Row], type(Row)("Checked", (Row,), annotations))


def refusal(columns: Annotations, model_type: Any, kind: Any = "prediction") -> str:
    with pytest.raises(InvalidExtractorError) as caught:
        check_columns(columns_of(row_of(columns)), model_type, kind)
    return str(caught.value)


def check(columns: Annotations, model_type: Any, kind: Any = "prediction") -> None:
    check_columns(columns_of(row_of(columns)), model_type, kind)


def accepted(columns: Annotations, model_type: Any, kind: Any = "prediction") -> bool:
    try:
        check_model_type(model_type)
        check(columns, model_type, kind)
    except InvalidExtractorError:
        return False
    return True


ID = {"id": Annotated[str, PredictionId]}
PREDICTIONS: dict[str, Annotations] = {
    "regression": {**ID, "a": Annotated[float, PredictionLabel]},
    "binary": {**ID, "a": Annotated[str, PredictionLabel]},
    "categorical": {**ID, "a": Annotated[Literal["x", "y"], PredictionLabel]},
    "multiclass": {**ID, "a": Annotated[ClassScores, PredictionScore]},
    "ranking": {**ID, "a": Annotated[str, GroupId], "b": Annotated[int, Rank]},
    "untyped": {"a": float},
}
ACTUALS: dict[str, Annotations] = {
    "regression": {**ID, "a": Annotated[float, ActualLabel]},
    "binary": {**ID, "a": Annotated[str, ActualLabel]},
    "categorical": {**ID, "a": Annotated[str, ActualLabel], "b": Annotated[float, ActualScore]},
    "multiclass": {**ID, "a": Annotated[ClassScores, ActualScore]},
    "ranking": {**ID, "a": Annotated[list[str], RelevanceLabel]},
    "untyped": {"a": float},
}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_least_that_each_model_type_needs_is_enough(model_type: str) -> None:
    assert accepted(PREDICTIONS[model_type], model_type)
    assert accepted(ACTUALS[model_type], model_type, "actual")


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        (
            None,
            "give model_type=, one of regression, binary, categorical, multiclass, ranking, "
            "untyped",
        ),
        (
            "object_detection",
            'model_type="object_detection" is not supported; model_type="untyped" keeps its table',
        ),
        (
            "generative_llm",
            'model_type="generative_llm" is not supported; model_type="untyped" keeps its table',
        ),
        ("llm", 'model_type="llm" is not supported; model_type="untyped" keeps its table'),
        (
            "Binary",
            'model_type="Binary" is not one of regression, binary, categorical, multiclass, '
            "ranking, untyped",
        ),
    ],
)
def test_other_model_types_are_refused_with_the_remedy(model_type: Any, message: str) -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        check_model_type(model_type)
    assert str(caught.value) == message


class Card(BaseModel):
    country: str


class Grade(IntEnum):
    ONE = 1


REMEDY = "convert it in the extractor, or mark the column TableOnly"
FEATURES = "str or int or float or bool or list[str]"


@pytest.mark.parametrize(
    ("model_type", "annotation", "takes"),
    [
        *(
            ("binary", Annotated[kind, Feature], f"Feature of a binary model is {FEATURES}")
            for kind in (Timestamp, date, bytes, list[float], list[int], ClassScores, Card)
        ),
        (
            "binary",
            Annotated[list[str], Tag],
            "Tag of a binary model is str or int or float or bool",
        ),
        ("binary", Annotated[bool, PredictionLabel], "PredictionLabel of a binary model is str"),
        ("binary", Annotated[Grade, PredictionLabel], "PredictionLabel of a binary model is str"),
        (
            "categorical",
            Annotated[Literal[0, 1], ActualLabel],
            "ActualLabel of a categorical model is str",
        ),
        (
            "binary",
            Annotated[str, PredictionScore],
            "PredictionScore of a binary model is int or float",
        ),
        (
            "binary",
            Annotated[ClassScores, PredictionScore],
            "PredictionScore of a binary model is int or float",
        ),
        (
            "regression",
            Annotated[str, PredictionLabel],
            "PredictionLabel of a regression model is int or float",
        ),
        (
            "multiclass",
            Annotated[float, PredictionScore],
            "PredictionScore of a multiclass model is ClassScores",
        ),
        ("ranking", Annotated[float, Rank], "Rank of a ranking model is int"),
        ("ranking", Annotated[int, GroupId], "GroupId of a ranking model is str"),
        (
            "ranking",
            Annotated[int, RelevanceLabel],
            "RelevanceLabel of a ranking model is str or list[str]",
        ),
        ("binary", Annotated[int, PredictionId], "PredictionId of a binary model is str"),
        ("binary", Annotated[str, EventTime], "EventTime of a binary model is Timestamp"),
        ("binary", Annotated[int, ModelVersion], "ModelVersion of a binary model is str"),
        (
            "binary",
            Annotated[list[int], EmbeddingVector("e")],
            'EmbeddingVector("e") of a binary model is list[float]',
        ),
        (
            "binary",
            Annotated[list[str], EmbeddingLink("e")],
            'EmbeddingLink("e") of a binary model is str',
        ),
        (
            "binary",
            Annotated[bool, ShapValue("f")],
            'ShapValue("f") of a binary model is int or float',
        ),
        # Of an untyped model, those that are stamped.
        ("untyped", Annotated[int, PredictionId], "PredictionId of any model is str"),
        ("untyped", Annotated[int, ModelVersion], "ModelVersion of any model is str"),
        ("untyped", Annotated[str, EventTime], "EventTime of any model is Timestamp"),
    ],
)
def test_a_type_that_a_role_does_not_take_is_refused_with_those_it_does(
    model_type: str, annotation: Any, takes: str
) -> None:
    assert refusal({"c": annotation}, model_type) == f"column c: {takes}; {REMEDY}"


@pytest.mark.parametrize(
    ("model_type", "annotation", "role"),
    [
        ("binary", Annotated[str | None, PredictionId], "PredictionId"),
        ("untyped", Annotated[str | None, PredictionId], "PredictionId"),
        ("ranking", Annotated[str | None, GroupId], "GroupId"),
        ("ranking", Annotated[int | None, Rank], "Rank"),
        ("binary", Annotated[Timestamp | None, EventTime], "EventTime"),
        ("multiclass", Annotated[ClassScores | None, PredictionScore], "PredictionScore"),
        ("multiclass", Annotated[ClassScores | None, ActualScore], "ActualScore"),
    ],
)
def test_what_must_not_be_null_is_refused_as_optional(
    model_type: str, annotation: Any, role: str
) -> None:
    message = refusal({"c": annotation}, model_type)
    assert message == f"column c: {role} must not be null; remove `| None`"


@pytest.mark.parametrize(
    ("model_type", "annotation", "allowed"),
    [
        (
            "multiclass",
            Annotated[str, PredictionLabel],
            "ActualScore, EmbeddingLink, EmbeddingText, EmbeddingVector, EventTime, Feature, "
            "ModelVersion, PredictionId, PredictionScore, ShapValue, TableOnly, Tag",
        ),
        (
            "ranking",
            Annotated[str, PredictionLabel],
            "EmbeddingLink, EmbeddingText, EmbeddingVector, EventTime, Feature, GroupId, "
            "ModelVersion, PredictionId, PredictionScore, Rank, RelevanceLabel, RelevanceScore, "
            "ShapValue, TableOnly, Tag",
        ),
        (
            "binary",
            Annotated[int, Rank],
            "ActualLabel, ActualScore, EmbeddingLink, EmbeddingText, EmbeddingVector, EventTime, "
            "Feature, ModelVersion, PredictionId, PredictionLabel, PredictionScore, ShapValue, "
            "TableOnly, Tag",
        ),
    ],
)
def test_a_role_that_the_model_type_has_no_place_for_is_refused_with_those_it_has(
    model_type: str, annotation: Any, allowed: str
) -> None:
    message = refusal({**PREDICTIONS[model_type], "c": annotation}, model_type)
    role = next(item for item in annotation.__metadata__)
    assert message == (
        f"column c: the role {role} has no place in prediction rows of a {model_type} model; "
        f"mark it TableOnly, or one of {allowed}"
    )


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[float, Feature],
        Annotated[str, PredictionLabel],
        Annotated[float, PredictionScore],
        Annotated[list[float], EmbeddingVector("e")],
    ],
)
def test_actuals_hold_only_what_turned_out(annotation: Any) -> None:
    message = refusal({**ACTUALS["binary"], "c": annotation}, "binary", "actual")
    assert message == (
        f"column c: the role {annotation.__metadata__[0]} has no place in actual rows of a binary "
        "model; mark it TableOnly, or one of ActualLabel, ActualScore, EventTime, ModelVersion, "
        "PredictionId, ShapValue, TableOnly, Tag"
    )


@pytest.mark.parametrize("model_type", ["binary", "untyped"])
@pytest.mark.parametrize(
    ("first", "second", "role"),
    [
        (Annotated[str, PredictionId], Annotated[str, PredictionId], "PredictionId"),
        (Annotated[str, PredictionLabel], Annotated[str, PredictionLabel], "PredictionLabel"),
        (
            Annotated[list[float], EmbeddingVector("e")],
            Annotated[list[float], EmbeddingVector("e")],
            'EmbeddingVector("e")',
        ),
    ],
)
def test_most_roles_belong_to_one_column(
    model_type: str, first: Any, second: Any, role: str
) -> None:
    message = refusal({"c": first, "d": second}, model_type)
    assert message == f"columns c and d both have the role {role}; only one may"


BASE = PREDICTIONS["binary"]
VECTOR = Annotated[list[float], EmbeddingVector("e")]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"a_shap": Annotated[float, Feature]},
            'column a_shap: Arize takes no name that ends in _shap, as "a_shap"; rename it',
        ),
        (
            {"a_shap": Annotated[str, Tag]},
            'column a_shap: Arize takes no name that ends in _shap, as "a_shap"; rename it',
        ),
        (
            {"v": Annotated[list[float], EmbeddingVector("e_shap")]},
            'column v: Arize takes no name that ends in _shap, as "e_shap"; rename it',
        ),
        (
            {"v_shap": VECTOR},
            'column v_shap: Arize takes no name that ends in _shap, as "v_shap"; rename it',
        ),
        (
            {"v": Annotated[list[float], EmbeddingVector("  ")]},
            'column v: Arize does not take the name "  "; rename it',
        ),
        *(
            (
                {name: Annotated[int, role]},
                f'column {name}: Arize does not take the name "{name}"; rename it',
            )
            for name in limits.RESERVED_TAG_COLS
            for role in (Feature, Tag)
        ),
        ({"s": Annotated[float, ShapValue("f")]}, 'column s: there is no feature "f"'),
        ({"t": Annotated[str, EmbeddingText("e")]}, 'embedding "e" has no EmbeddingVector("e")'),
        (
            {"e": Annotated[str, Feature], "v": VECTOR},
            '"e" is the name of a feature and of an embedding',
        ),
        (
            {f"v{n}": Annotated[list[float], EmbeddingVector(f"e{n}")] for n in range(31)},
            f"31 embeddings; Arize takes {limits.MAX_NUMBER_OF_EMBEDDINGS}",
        ),
    ],
)
def test_names_that_arize_does_not_take_are_refused(columns: Annotations, message: str) -> None:
    assert refusal({**BASE, **columns}, "binary") == message
    # Without Arize any name will do.
    check({**BASE, **columns}, "untyped")


def test_explanations_may_come_late_with_the_actuals() -> None:
    late = {**ACTUALS["binary"], "amount_shap": Annotated[float, ShapValue("amount")]}
    check(late, "binary", "actual")
    assert schema_fields(columns_of(row_of(late)), "binary")["shap_values_column_names"] == {
        "amount": "amount_shap"
    }


@pytest.mark.parametrize(
    ("columns", "model_type", "kind", "message"),
    [
        (
            {"a": Annotated[str, ActualLabel]},
            "binary",
            "actual",
            "actuals join their predictions by id: give one column the role PredictionId",
        ),
        (
            {**ID, "a": Annotated[float, Feature]},
            "binary",
            "prediction",
            "prediction rows of a binary model need a column with one of the roles "
            "PredictionLabel, PredictionScore",
        ),
        (
            {**ID, "a": Annotated[str, ActualLabel]},
            "regression",
            "prediction",
            f"column a: ActualLabel of a regression model is int or float; {REMEDY}",
        ),
        (
            {**ID},
            "multiclass",
            "prediction",
            "prediction rows of a multiclass model need a column with one of the roles "
            "PredictionScore",
        ),
        (
            {**ID},
            "binary",
            "actual",
            "actual rows of a binary model need a column with one of the roles "
            "ActualLabel, ActualScore",
        ),
        (
            {**ID},
            "ranking",
            "actual",
            "actual rows of a ranking model need a column with one of the roles "
            "RelevanceLabel, RelevanceScore",
        ),
        (
            {**ID, "a": Annotated[int, Rank]},
            "ranking",
            "prediction",
            "a ranking model needs a GroupId and a Rank column",
        ),
        (
            {**PREDICTIONS["regression"], "b": Annotated[float, PredictionScore]},
            "regression",
            "prediction",
            "a regression model has one prediction; drop its label or its score",
        ),
        (
            {**ACTUALS["regression"], "b": Annotated[float, ActualScore]},
            "regression",
            "actual",
            "a regression model has one actual; drop its label or its score",
        ),
    ],
)
def test_what_is_missing_or_too_much_is_refused_with_the_remedy(
    columns: Annotations, model_type: str, kind: str, message: str
) -> None:
    assert refusal(columns, model_type, kind) == message


def test_the_sdk_s_schema_follows_from_the_roles() -> None:
    class Full(Row):
        id: Annotated[str, PredictionId]
        at: Annotated[Timestamp, EventTime]
        build: Annotated[str | None, ModelVersion]
        amount: Annotated[float, Feature]
        country: Annotated[str, Feature]
        amount_shap: Annotated[float, ShapValue("amount")]
        channel: Annotated[str, Tag]
        note: Annotated[str, TableOnly]
        group: Annotated[str, GroupId]
        rank: Annotated[int, Rank]
        score: Annotated[float, PredictionScore]
        outcome: Annotated[str, RelevanceLabel]
        grade: Annotated[float, RelevanceScore]
        text: Annotated[str, EmbeddingText("review")]
        vector: Annotated[list[float], EmbeddingVector("review")]
        link: Annotated[str, EmbeddingLink("review")]

    columns = columns_of(Full)
    check_columns(columns, "ranking", "prediction")
    assert schema_fields(columns, "ranking") == {
        "prediction_id_column_name": "prediction_id",
        "timestamp_column_name": "at",
        "feature_column_names": ["amount", "country"],
        "tag_column_names": ["channel"],
        "shap_values_column_names": {"amount": "amount_shap"},
        "prediction_group_id_column_name": "group",
        "rank_column_name": "rank",
        "prediction_score_column_name": "score",
        "relevance_labels_column_name": "outcome",
        "relevance_score_column_name": "grade",
        "embedding_feature_column_names": {
            "review": {
                "data_column_name": "text",
                "vector_column_name": "vector",
                "link_to_data_column_name": "link",
            }
        },
    }


def test_outcomes_are_named_as_the_sdk_names_them() -> None:
    both = {**PREDICTIONS["binary"], "b": Annotated[float, PredictionScore]}
    actual = {"c": Annotated[str, ActualLabel], "d": Annotated[float, ActualScore]}
    assert schema_fields(columns_of(row_of({**both, **actual})), "binary") == {
        "prediction_id_column_name": "prediction_id",
        "prediction_label_column_name": "a",
        "prediction_score_column_name": "b",
        "actual_label_column_name": "c",
        "actual_score_column_name": "d",
    }


def test_limits_are_those_of_the_installed_sdk() -> None:
    assert sdk_limits() is limits
