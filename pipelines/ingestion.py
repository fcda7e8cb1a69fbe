"""What Arize's documents say that the server takes: types by role, the same ones for ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipelines.uploads import Upload

MAX_BODY_BYTES = 256 << 20
"""Far above what Arize's SDK makes of the most rows that it sends in one batch."""
_NUMBERS = {"number"}
# Kinds that a role may have, by the field of the protobuf's ArrowSchema that names its columns.
_KINDS: Mapping[str, set[str]] = {
    "prediction_id_column_name": {"text", "number"},
    "timestamp_column_name": {"number", "time"},
    "feature_column_names": {"text", "number", "boolean", "list of text"},
    "tag_column_names": {"text", "number", "boolean"},
    "shap_values_column_names": _NUMBERS,
    "vector_column_name": {"list of numbers"},
    "data_column_name": {"text", "list of text"},
    "link_to_data_column_name": {"text"},
    "rank_column_name": _NUMBERS,
    "prediction_group_id_column_name": {"text", "number"},
}


class Ingestion:
    """Remembers the kind of each column of a model, from the first upload that had values in it."""

    def __init__(self) -> None:
        self._pinned: dict[tuple[str, str, str, str], str] = {}

    def check(self, upload: Upload) -> None:
        """Refuse an upload that a strict server would refuse.

        Raises:
            ValueError: a column that nothing names, of a type that its role or an earlier upload
                does not have.
        """
        named = dict(_named(upload.columns))
        table = upload.table
        if unnamed := sorted(set(table.column_names) - set(named)):
            raise ValueError(f"columns that arize-schema does not name: {unnamed}")
        pinned = {}
        for name, role in named.items():
            column = table[name]
            kind = _kind(column.type)
            if column.null_count == len(column):
                continue
            if role in _KINDS and kind not in _KINDS[role]:
                raise ValueError(f"column {name}: {role} does not take {column.type}")
            key = (upload.space_id, upload.model_id, upload.environment, name)
            if self._pinned.get(key, kind) != kind:
                raise ValueError(f"column {name}: it is {kind} now, and was {self._pinned[key]}")
            pinned[key] = kind
        self._pinned |= pinned


def _named(columns: Any, role: str = "") -> Iterator[tuple[str, str]]:
    """Names of columns, with the field that names them."""
    if isinstance(columns, str):
        yield columns, role
    elif isinstance(columns, Mapping):
        for field, value in columns.items():
            # Of a mapping by feature or embedding the outer field says what it is.
            yield from _named(value, field if field.endswith(("_name", "_names", "_map")) else role)
    else:
        for value in columns:
            yield from _named(value, role)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _kind(kind.value_type)
        return f"list of {'numbers' if inner == 'number' else inner}"
    return str(kind)
