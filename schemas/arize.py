"""What Arize's own static rules say about a row class, and the SDK schema that follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import pyarrow as pa

from schemas.arrow import CLASS_SCORES, TIME
from schemas.columns import Column
from schemas.errors import InvalidExtractorError
from schemas.roles import MANY, Role
from schemas.settings import ModelSettings
from weighbridge.wire import Kind

ModelType = Literal["regression", "binary", "categorical", "multiclass", "ranking", "untyped"]
MODEL_TYPES: tuple[str, ...] = get_args(ModelType)
_REFUSED = frozenset({"object_detection", "generative_llm", "llm"})

_STRING, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_STRINGS, _FLOATS = pa.list_(_STRING), pa.list_(_FLOAT)
_NUMBER = (_INT, _FLOAT)
# Arrow types that the validator of `ml.log` takes for a role, arize 8.61.
_TYPES: Mapping[str, tuple[pa.DataType, ...]] = {
    "feature": (_STRING, _INT, _FLOAT, _BOOL, _STRINGS),
    "tag": (_STRING, _INT, _FLOAT, _BOOL),
    "prediction_id": (_STRING,),
    "event_time": (TIME,),
    "model_version": (_STRING,),
    "group_id": (_STRING,),
    "rank": (_INT,),
    "shap_value": _NUMBER,
    "embedding_vector": (_FLOATS,),
    "embedding_text": (_STRING, _STRINGS),
    "embedding_link": (_STRING,),
    "relevance_label": (_STRING, _STRINGS),
    "relevance_score": _NUMBER,
}
_OUTCOMES = ("prediction_label", "prediction_score", "actual_label", "actual_score")
_OUTCOME_TYPES: Mapping[str, Mapping[str, tuple[pa.DataType, ...]]] = {
    "regression": dict.fromkeys(_OUTCOMES, _NUMBER),
    "binary": {name: (_STRING,) if name.endswith("label") else _NUMBER for name in _OUTCOMES},
    "categorical": {name: (_STRING,) if name.endswith("label") else _NUMBER for name in _OUTCOMES},
    "multiclass": {"prediction_score": (CLASS_SCORES,), "actual_score": (CLASS_SCORES,)},
    "ranking": {"prediction_score": _NUMBER},
}
_ANYWHERE = frozenset({*MANY, "prediction_id", "event_time", "model_version", "shap_value"})
_EMBEDDING = ("embedding_vector", "embedding_text", "embedding_link")
_RANKING = ("group_id", "rank", "relevance_label", "relevance_score")
_NEVER_NULL = frozenset({"prediction_id", "group_id", "rank", "event_time"})
_STAMPING = frozenset({"prediction_id", "model_version", "event_time"})
_PYTHON_NAMES: Mapping[pa.DataType, str] = {
    _STRING: "str",
    _INT: "int",
    _FLOAT: "float",
    _BOOL: "bool",
    _STRINGS: "list[str]",
    _FLOATS: "list[float]",
    TIME: "Timestamp",
    CLASS_SCORES: "ClassScores",
}
_RESERVED = frozenset(
    {
        "total_token_count",
        "prompt_token_count",
        "response_token_count",
        "response_latency_ms",
    }
)


def check_model_type(model_type: str | None) -> None:
    """Refuse a model type that tables or Arize have no rows for.

    Raises:
        InvalidExtractorError: with the types there are.
    """
    if model_type is None:
        raise InvalidExtractorError(f"give model_type=, one of {', '.join(MODEL_TYPES)}")
    if model_type in _REFUSED:
        raise InvalidExtractorError(
            f'model_type="{model_type}" is not supported; model_type="untyped" keeps its table'
        )
    if model_type not in MODEL_TYPES:
        raise InvalidExtractorError(
            f'model_type="{model_type}" is not one of {", ".join(MODEL_TYPES)}'
        )


def check_columns(columns: tuple[Column, ...], model_type: ModelType, kind: Kind) -> None:
    """Refuse what Arize would refuse for every batch of such rows.

    Raises:
        InvalidExtractorError: naming the column and the remedy.
    """
    _check_once(columns)
    if model_type == "untyped":
        for column in columns:
            if column.role.kind in _STAMPING:
                _check_type(column, _TYPES[column.role.kind], "any model")
        return
    _check_roles(columns, model_type, kind)
    for column in columns:
        types = _TYPES.get(column.role.kind) or _OUTCOME_TYPES[model_type].get(column.role.kind)
        _check_type(column, types or (column.type,), f"a {model_type} model")
    _check_names(columns, kind)
    _check_complete({column.role.kind for column in columns}, model_type, kind)


def schema_fields(columns: Iterable[Column], model_type: ModelType) -> dict[str, Any]:
    """Arguments of the SDK's `Schema` for these columns of a table (embeddings as plain dicts)."""
    fields: dict[str, Any] = {
        "prediction_id_column_name": "prediction_id",
        "feature_column_names": [],
        "tag_column_names": [],
        "shap_values_column_names": {},
        "embedding_feature_column_names": {},
    }
    for column in columns:
        role = column.role
        if role.kind in ("feature", "tag"):
            fields[f"{role.kind}_column_names"].append(column.name)
        elif role.kind == "shap_value":
            fields["shap_values_column_names"][role.of] = column.name
        elif role.kind in _EMBEDDING:
            part = {"vector": "vector", "text": "data", "link": "link_to_data"}[role.kind[10:]]
            embedding = fields["embedding_feature_column_names"].setdefault(role.of, {})
            embedding[f"{part}_column_name"] = column.name
        elif role.kind == "event_time":
            fields["timestamp_column_name"] = column.name
        elif role.kind == "group_id":
            fields["prediction_group_id_column_name"] = column.name
        elif role.kind == "relevance_label":
            fields["relevance_labels_column_name"] = column.name
        elif role.kind in (*_OUTCOMES, "rank", "relevance_score"):
            fields[f"{role.kind}_column_name"] = column.name
    return {name: value for name, value in fields.items() if value}


def check_settings(settings: ModelSettings, model_type: ModelType) -> None:
    """Whether a model of that type can be sampled as its settings say.

    Raises:
        InvalidExtractorError: it cannot, with the remedy.
    """
    by, ranking = settings.arize_sample_by, model_type == "ranking"
    if by is not None and (by == "group") != ranking:
        reason = "Arize measures whole groups" if ranking else "only ranking models have groups"
        raise InvalidExtractorError(f'arize_sample_by="{by}": {reason}; leave it out')


def _check_once(columns: tuple[Column, ...]) -> None:
    seen: dict[tuple[str, str | None], str] = {}
    for column in columns:
        role = column.role
        if role.kind not in MANY:
            other = seen.setdefault((role.kind, role.of), column.name)
            if other != column.name:
                raise InvalidExtractorError(
                    f"columns {other} and {column.name} both have the role {role}; only one may"
                )


def _check_roles(columns: tuple[Column, ...], model_type: ModelType, kind: Kind) -> None:
    allowed = {*_ANYWHERE, *_EMBEDDING, *_own_roles(model_type)}
    if kind == "actual":
        allowed -= {"feature", "prediction_label", "prediction_score", "group_id", "rank"}
        allowed -= {*_EMBEDDING}
    for column in columns:
        if column.role.kind not in allowed:
            raise InvalidExtractorError(
                f"column {column.name}: the role {column.role} has no place in {kind} rows of a "
                f"{model_type} model; mark it TableOnly, or one of {_named(allowed)}"
            )


def _check_type(column: Column, types: tuple[pa.DataType, ...], of: str) -> None:
    role = column.role.kind
    if column.type not in types:
        named = " or ".join(_PYTHON_NAMES[kind] for kind in types)
        raise InvalidExtractorError(
            f"column {column.name}: {column.role} of {of} is {named}; "
            "convert it in the extractor, or mark the column TableOnly"
        )
    scores = column.type == CLASS_SCORES and role != "table_only"
    if column.nullable and (role in _NEVER_NULL or scores):
        raise InvalidExtractorError(
            f"column {column.name}: {column.role} must not be null; remove `| None`"
        )


def _check_names(columns: tuple[Column, ...], kind: Kind) -> None:
    features = {column.name for column in columns if column.role.kind == "feature"}
    embeddings: dict[str, set[str]] = {}
    for column in columns:
        role = column.role
        if role.kind in _EMBEDDING:
            embeddings.setdefault(role.of or "", set()).add(role.kind)
        # Actuals may bring explanations that come late; their features are the predictions'.
        if role.kind == "shap_value" and role.of not in features and kind == "prediction":
            raise InvalidExtractorError(f'column {column.name}: there is no feature "{role.of}"')
        names = [role.of or ""] if role.needs_name else []
        if role.kind in ("feature", "tag", *_EMBEDDING):
            names.append(column.name)
        for name in names:
            if name.endswith("_shap"):
                raise InvalidExtractorError(
                    f'column {column.name}: Arize takes no name that ends in _shap, as "{name}"; '
                    "rename it"
                )
            if name in _RESERVED or not name.strip():
                raise InvalidExtractorError(
                    f'column {column.name}: Arize does not take the name "{name}"; rename it'
                )
    for name, parts in embeddings.items():
        if "embedding_vector" not in parts:
            raise InvalidExtractorError(f'embedding "{name}" has no EmbeddingVector("{name}")')
        if name in features:
            raise InvalidExtractorError(f'"{name}" is the name of a feature and of an embedding')
    most = sdk_limits().MAX_NUMBER_OF_EMBEDDINGS if embeddings else 0
    if len(embeddings) > most:
        raise InvalidExtractorError(f"{len(embeddings)} embeddings; Arize takes {most}")


def _check_complete(roles: set[str], model_type: ModelType, kind: Kind) -> None:
    outcomes = {"prediction_label", "prediction_score"}
    if kind == "actual":
        outcomes = {"actual_label", "actual_score", "relevance_label", "relevance_score"}
        if "prediction_id" not in roles:
            raise InvalidExtractorError(
                "actuals join their predictions by id: give one column the role PredictionId"
            )
    if model_type == "ranking" and kind == "prediction":
        if not {"group_id", "rank"} <= roles:
            raise InvalidExtractorError("a ranking model needs a GroupId and a Rank column")
    elif not outcomes & roles:
        raise InvalidExtractorError(
            f"{kind} rows of a {model_type} model need a column with one of the roles "
            f"{_named(outcomes & _own_roles(model_type))}"
        )
    if model_type == "regression":
        for side in ("prediction", "actual"):
            if {f"{side}_label", f"{side}_score"} <= roles:
                raise InvalidExtractorError(
                    f"a regression model has one {side}; drop its label or its score"
                )


def _own_roles(model_type: ModelType) -> set[str]:
    return {*_OUTCOME_TYPES[model_type], *(_RANKING if model_type == "ranking" else ())}


def _named(kinds: Iterable[str]) -> str:
    return ", ".join(str(Role(kind)) for kind in sorted(kinds))


def sdk_limits() -> Any:
    """The installed SDK's module of limits."""
    # Takes a second to import and is asked for the limits of the SDK that is installed.
    from arize.constants import ml

    return ml
