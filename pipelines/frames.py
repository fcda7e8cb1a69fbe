"""Rows as the SDK takes them: a data frame of pinned types, and the schema that names its roles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arize import ModelType, schema_fields
from schemas.arrow import CLASS_SCORES
from schemas.columns import Column

# The SDK's validator breaks on Arrow-backed columns of these, and wants lists and None.
_AS_OBJECTS = frozenset({"embedding_vector", "embedding_text", "relevance_label"})
_NOT_SENT = frozenset({"table_only", "model_version", "prediction_id"})


def sent_columns(columns: Sequence[Column]) -> list[Column]:
    """The columns that Arize gets beside the prediction id."""
    return [column for column in columns if column.role.kind not in _NOT_SENT]


def time_column(columns: Sequence[Column]) -> str:
    """Name of the column that says when: the one with that role, or the envelope's time."""
    named = [column.name for column in columns if column.role.kind == "event_time"]
    return named[0] if named else "event_time"


def sdk_schema(
    rows: pa.Table, columns: Sequence[Column], model_type: ModelType, time: str | None
) -> Any:
    """The SDK's `Schema` of these rows.

    Args:
        rows: what is sent together.
        columns: what `sent_columns` gave.
        model_type: of the model.
        time: name of the column that says when; None where Arize is not told.
    """
    from arize.ml.types import EmbeddingColumnNames, Schema

    # Columns that hold nothing in this batch: the SDK refuses them for these roles.
    sent = [
        column
        for column in columns
        if not column.role.needs_name or rows[column.name].null_count < rows.num_rows
    ]
    vectors = {c.role.of for c in sent if c.role.kind == "embedding_vector"}
    sent = [c for c in sent if "embedding" not in c.role.kind or c.role.of in vectors]
    fields = schema_fields(sent, model_type)
    if time is None:
        fields.pop("timestamp_column_name", None)
    else:
        fields["timestamp_column_name"] = time
    embeddings = fields.pop("embedding_feature_column_names", {})
    if embeddings:
        fields["embedding_feature_column_names"] = {
            name: EmbeddingColumnNames(**parts) for name, parts in embeddings.items()
        }
    return Schema(**fields)


def apart(rows: pa.Table, columns: Sequence[Column], model_type: str) -> list[pa.Table]:
    """Rows in parts that the SDK takes, where it would refuse them together.

    Of a multiclass model it wants a SHAP value in each row, or in none: classes do not count in
    its `_check_invalid_record_prod`. For other models that is a rule about each row.
    """
    shap = [rows[column.name] for column in columns if column.role.kind == "shap_value"]
    if model_type != "multiclass" or not shap:
        return [rows]
    bare = reduce(pc.and_, (values.is_null() for values in shap))
    return [part for part in (rows.filter(pc.invert(bare)), rows.filter(bare)) if part.num_rows]


def data_frame(rows: pa.Table, columns: Sequence[Column], time: str | None) -> pd.DataFrame:
    """A data frame whose types follow from the row class, whatever this batch holds."""
    data: dict[str, Any] = {}
    as_objects = {c.name for c in columns if c.role.kind in _AS_OBJECTS}
    texts = (c for c in columns if c.role.kind == "embedding_text")
    tokens = {c.name for c in texts if not _is_text(rows[c.name].type)}
    for name in ("prediction_id", *([time] if time else []), *(c.name for c in columns)):
        plain = name in as_objects or rows[name].type == CLASS_SCORES
        data[name] = _objects(rows[name]) if plain else _typed(rows[name])
        if name in tokens and not pc.any(pc.greater(pc.list_value_length(rows[name]), 0)).as_py():
            data[name] = data[name].map(_no_tokens, na_action="ignore")
    return pd.DataFrame(data, copy=False)


def _no_tokens(_: list[str]) -> Any:
    """An empty list whose type can be told; the SDK refuses a column of none but empty ones."""
    return np.array([], dtype=str)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _typed(column: pa.ChunkedArray) -> Any:
    if pa.types.is_large_string(column.type):  # what a table gives back; the SDK refuses it
        column = column.cast(pa.string())
    return pd.Series(pd.array(column, dtype=pd.ArrowDtype(column.type)), copy=False)


def _objects(column: pa.ChunkedArray) -> Any:
    return pd.Series(column.to_pylist(), dtype=object)
