"""Columns of BigQuery: from Arrow, and from those that a table has to those that it shall have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from google.cloud.bigquery import SchemaField

from schemas import ConfigurationError

_SCALARS = {
    pa.string(): "STRING",
    pa.bool_(): "BOOLEAN",
    pa.float64(): "FLOAT",
    pa.float32(): "FLOAT",
    pa.date32(): "DATE",
    pa.binary(): "BYTES",
}
_ALIASES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
_LONGEST_DESCRIPTION = 1024
Refuse = Callable[[str, str, str | None], ConfigurationError]


def without_maps(rows: pa.Table) -> pa.Table:
    """The rows, maps as lists of key and value: BigQuery has no maps."""
    for position, item in enumerate(rows.schema):
        if pa.types.is_map(item.type):
            pair = pa.struct([("key", item.type.key_type), ("value", item.type.item_type)])
            flat = pa.field(item.name, pa.list_(pair), metadata=item.metadata)
            rows = rows.set_column(position, flat, rows[position].cast(flat.type))
    return rows


def fields_of(table: str, schema: pa.Schema) -> list[SchemaField]:
    """The columns of a table, none of them required, with their descriptions.

    Raises:
        ConfigurationError: a type that BigQuery has no column for.
    """
    flat = without_maps(schema.empty_table()).schema
    return [_field(item, f"table {table}: column {item.name}") for item in flat]


def merged(
    stored: Sequence[SchemaField], wanted: Sequence[SchemaField], refuse: Refuse, within: str = ""
) -> tuple[list[SchemaField], list[str]]:
    """What a table shall have: what it has, and behind that what is new.

    Args:
        stored: the columns that it has.
        wanted: those of the row class.
        refuse: makes the error for a column, its type in the table, and that in the row class.
        within: what stands before the names.

    Returns:
        The columns, and what is said of each change.

    Raises:
        ConfigurationError: a column of another type, or a required one that the row class lacks.
    """
    by_name = {item.name: item for item in wanted}
    result, said = [], []
    for old in stored:
        new, name = by_name.pop(old.name, None), f"{within}{old.name}"
        if new is None:
            if old.mode == "REQUIRED":
                raise refuse(name, kind_of(old), None)
            result.append(old)  # not ours, or of an earlier row class
            continue
        if kind_of(old) != kind_of(new):
            raise refuse(name, kind_of(old), kind_of(new))
        changed = old.to_api_repr()  # with what was set by others, such as policy tags
        if old.mode == "REQUIRED":
            said.append(f"{name} may be null now")
            changed["mode"] = "NULLABLE"
        inner, more = merged(old.fields, new.fields, refuse, f"{name}.")
        said += more
        if new.description:
            changed["description"] = new.description
        if inner:
            changed["fields"] = [each.to_api_repr() for each in inner]
        result.append(SchemaField.from_api_repr(changed))
    for new in by_name.values():
        result.append(new)
        said.append(f"added {within}{new.name}")
    return result, said


def _field(item: pa.Field, place: str) -> SchemaField:
    kind, mode = item.type, "NULLABLE"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind, mode = kind.value_type, "REPEATED"
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            raise ConfigurationError(
                f"{place}: BigQuery has no lists of lists; put the inner list into a model"
            )
    column: dict[str, Any] = {"name": item.name, "mode": mode}
    if doc := (item.metadata or {}).get(b"doc", b"").decode():
        column["description"] = doc[:_LONGEST_DESCRIPTION]
    if pa.types.is_struct(kind):
        column["type"] = "RECORD"
        inner = [_field(each, f"{place}.{each.name}") for each in kind]
        column["fields"] = [each.to_api_repr() for each in inner]
    else:
        column["type"] = _scalar(kind, place)
    return SchemaField.from_api_repr(column)


def _scalar(kind: pa.DataType, place: str) -> str:
    if pa.types.is_integer(kind):
        return "INTEGER"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP"
    if kind not in _SCALARS:
        raise ConfigurationError(f"{place}: BigQuery has no column for {kind}; use another type")
    return _SCALARS[kind]


def kind_of(item: SchemaField) -> str:
    """The type of a column by its one name, `repeated` in front of a list's."""
    name = str(item.field_type).upper()
    name = _ALIASES.get(name, name)
    return f"repeated {name}" if item.mode == "REPEATED" else name
