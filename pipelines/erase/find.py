"""Which rows of a model an expression means, in all of its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression, In
from pyiceberg.expressions.parser import parse
from pyiceberg.expressions.visitors import bind
from pyiceberg.schema import Schema
from pyparsing import ParseException

from extractors import Extractor, Extractors
from pipelines.destination import Destination
from pipelines.tables import MODELS, tables_of
from schemas.errors import ConfigurationError

_COLUMNS = (
    *("envelope_id", "row_id", "event_time", "ingest_time"),
    *("model_version", "prediction_id"),
)


def find_rows(
    tables: Destination, extractors: Extractors, model_id: str, where: str
) -> dict[str, tuple[Extractor, pa.Table]]:
    """Rows that an expression means, with their extractor, by full name of table.

    Of a table that does not have its columns they are those of the same prediction ids. Such tables
    come first: once the rows of the others are gone, nothing would lead to theirs.

    Args:
        tables: where they are.
        extractors: those that are registered.
        model_id: of the model.
        where: such as `payment_id = 'p-1'`, in PyIceberg's syntax of row filters.

    Raises:
        ConfigurationError: the model or a column is unknown, or the expression is none.
    """
    owners = _owners(tables, extractors, model_id)
    columns = {name: tables.filterable(name) for name in owners}
    expression = _parsed(where)
    has = {name: _fits(schema, expression) for name, schema in columns.items()}
    if not any(has.values()):
        names = sorted({field.name for schema in columns.values() for field in schema.fields})
        raise ConfigurationError(
            f"--where: no table of {model_id} has all of its columns; there are {', '.join(names)}"
        )
    found = {name: tables.matching(name, expression, _COLUMNS) for name in owners if has[name]}
    ids = {id_ for rows in found.values() for id_ in rows["prediction_id"].to_pylist()} - {None}
    same = In(term="prediction_id", literals=ids)
    for name in owners:
        if not has[name]:
            found[name] = tables.matching(name, same, _COLUMNS)
    names = sorted(found, key=lambda name: (has[name], name))
    return {name: (owners[name], found[name]) for name in names}


def _owners(tables: Destination, extractors: Extractors, model_id: str) -> Mapping[str, Extractor]:
    known = sorted({model for model, _ in extractors})
    if model_id not in known:
        raise ConfigurationError(f"--model {model_id}: not registered; {', '.join(known)}")
    present = set(tables.names(MODELS))
    return {name: item for name, item in _named(extractors, model_id) if name in present}


def _named(extractors: Extractors, model_id: str) -> Iterator[tuple[str, Extractor]]:
    for extractor in extractors.values():
        if extractor.model_id == model_id:
            for name in tables_of(extractor):
                yield name, extractor


def _parsed(where: str) -> BooleanExpression:
    try:
        return parse(where)
    except ParseException as error:  # its text quotes the expression, which may name a person
        raise ConfigurationError(
            f"--where: not understood at character {error.loc + 1}; write a column and values, "
            "such as payment_id = '…' or payment_id in ('…', '…')"
        ) from None


def _fits(schema: Schema, expression: BooleanExpression) -> bool:
    """Whether a table has the columns of an expression."""
    try:
        bind(schema, expression, case_sensitive=True)
    except ValueError as error:
        if "Could not find field" in str(error):
            return False
        raise _mismatch() from None
    except TypeError:
        raise _mismatch() from None
    return True


def _mismatch() -> ConfigurationError:
    return ConfigurationError(
        "--where: a value is not of its column's type; text is in single quotes, numbers are not"
    )
