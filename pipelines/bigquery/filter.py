"""Row filters in PyIceberg's syntax as conditions of BigQuery, their values apart from the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple

from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter, SchemaField
from pyiceberg.expressions import BooleanExpression
from pyiceberg.expressions.visitors import BoundBooleanExpressionVisitor, bind, rewrite_not, visit
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DoubleType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
)

from pipelines.bigquery.schema import kind_of

_TYPES: dict[str, tuple[IcebergType, str]] = {
    "STRING": (StringType(), "STRING"),
    "INTEGER": (LongType(), "INT64"),
    "FLOAT": (DoubleType(), "FLOAT64"),
    "BOOLEAN": (BooleanType(), "BOOL"),
    "TIMESTAMP": (TimestamptzType(), "TIMESTAMP"),
    "DATE": (DateType(), "DATE"),
    "BYTES": (BinaryType(), "BYTES"),
}
"""By BigQuery's name: the type that a filter is bound to, and that of its values."""
_PARAMETERS = dict(_TYPES.values())
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Parameter = ScalarQueryParameter | ArrayQueryParameter


class Condition(NamedTuple):
    """What stands behind WHERE, and the values that it names."""

    text: str
    parameters: Sequence[Parameter] = ()


def filterable(columns: Iterable[SchemaField]) -> Schema:
    """The columns that a filter can name: single values, also those within records."""
    return Schema(*_fields(columns, count(1)))


def condition(schema: Schema, expression: BooleanExpression) -> Condition:
    """A filter as BigQuery takes it.

    Args:
        schema: what `filterable` gave.
        expression: the filter, not bound; see `bind` of PyIceberg for its errors.
    """
    sql = _Sql(schema)
    bound = bind(schema, rewrite_not(expression), case_sensitive=True)
    return Condition(visit(bound, sql), sql.parameters)


def _fields(columns: Iterable[SchemaField], ids: Iterator[int]) -> Iterator[NestedField]:
    for column in columns:
        kind = kind_of(column)
        if kind == "RECORD":
            yield _field(column, StructType(*_fields(column.fields, ids)), ids)
        elif kind in _TYPES:
            yield _field(column, _TYPES[kind][0], ids)


def _field(column: SchemaField, kind: IcebergType, ids: Iterator[int]) -> NestedField:
    return NestedField(next(ids), column.name, kind, required=False)


class _Sql(BoundBooleanExpressionVisitor[str]):
    """Nulls go as in PyIceberg: they differ from what a list names, and compare with nothing."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.parameters: list[Parameter] = []

    def visit_in(self, term: Any, literals: set[Any]) -> str:
        name, (kind, values) = f"p{len(self.parameters)}", self._values(term, literals)
        self.parameters.append(ArrayQueryParameter(name, kind, values))
        return f"COALESCE({self._path(term)} IN UNNEST(@{name}), FALSE)"

    def visit_not_in(self, term: Any, literals: set[Any]) -> str:
        return f"NOT {self.visit_in(term, literals)}"

    def visit_is_nan(self, term: Any) -> str:
        return f"COALESCE(IS_NAN({self._path(term)}), FALSE)"

    def visit_not_nan(self, term: Any) -> str:
        return f"NOT {self.visit_is_nan(term)}"

    def visit_is_null(self, term: Any) -> str:
        return f"{self._path(term)} IS NULL"

    def visit_not_null(self, term: Any) -> str:
        return f"{self._path(term)} IS NOT NULL"

    def visit_equal(self, term: Any, literal: Any) -> str:
        return self._compared(term, "=", literal)

    def visit_not_equal(self, term: Any, literal: Any) -> str:
        return self._compared(term, "!=", literal)

    def visit_greater_than_or_equal(self, term: Any, literal: Any) -> str:
        return self._compared(term, ">=", literal)

    def visit_greater_than(self, term: Any, literal: Any) -> str:
        return self._compared(term, ">", literal)

    def visit_less_than(self, term: Any, literal: Any) -> str:
        return self._compared(term, "<", literal)

    def visit_less_than_or_equal(self, term: Any, literal: Any) -> str:
        return self._compared(term, "<=", literal)

    def visit_starts_with(self, term: Any, literal: Any) -> str:
        return f"STARTS_WITH({self._path(term)}, {self._one(term, literal)})"

    def visit_not_starts_with(self, term: Any, literal: Any) -> str:
        return f"NOT {self.visit_starts_with(term, literal)}"

    def visit_true(self) -> str:
        return "TRUE"

    def visit_false(self) -> str:
        return "FALSE"

    def visit_not(self, child_result: str) -> str:
        return f"NOT ({child_result})"

    def visit_and(self, left_result: str, right_result: str) -> str:
        return f"({left_result} AND {right_result})"

    def visit_or(self, left_result: str, right_result: str) -> str:
        return f"({left_result} OR {right_result})"

    def _compared(self, term: Any, sign: str, literal: Any) -> str:
        return f"{self._path(term)} {sign} {self._one(term, literal)}"

    def _one(self, term: Any, literal: Any) -> str:
        name, (kind, values) = f"p{len(self.parameters)}", self._values(term, [literal])
        self.parameters.append(ScalarQueryParameter(name, kind, values[0]))
        return f"@{name}"

    def _path(self, term: Any) -> str:
        found = self._schema.find_column_name(term.ref().field.field_id) or ""
        return ".".join(f"`{part}`" for part in found.split("."))

    @staticmethod
    def _values(term: Any, literals: Iterable[Any]) -> tuple[str, list[Any]]:
        kind = _PARAMETERS[term.ref().field.field_type]
        return kind, [_value(kind, getattr(each, "value", each)) for each in literals]


def _value(kind: str, value: Any) -> Any:
    """A value as the client takes it: PyIceberg counts times from 1970."""
    if kind == "TIMESTAMP":
        return _EPOCH + timedelta(microseconds=value)
    if kind == "DATE":
        return date(1970, 1, 1) + timedelta(days=value)
    return value
