"""A row class as columns: names, types, roles, and one validator a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic_core import SchemaValidator, core_schema

from schemas._strictness import looks_at_others, model_fields
from schemas.arrow import STAMPED_FIELDS, arrow_type, converter
from schemas.errors import InvalidExtractorError
from schemas.roles import Role
from schemas.row import STAMPED, Row

Validate = Callable[[list[Any]], list[Any]]


@dataclass(frozen=True)
class Column:
    """One column of a row class.

    Attributes:
        required: whether a row must name it.
        make_default: gives the value of a row that does not.
        validate: checks a list of its values at once; the errors' positions name the bad ones.
        convert: what makes a validated value digestible for Arrow.
    """

    name: str
    role: Role
    type: pa.DataType
    nullable: bool
    description: str
    required: bool
    make_default: Callable[[], Any]
    validate: Validate
    convert: Callable[[Any], Any] | None


def columns_of(row: type[Row]) -> tuple[Column, ...]:
    """The columns of a row class, in the order in which it declares them.

    Raises:
        InvalidExtractorError: no columns, a type without mapping, an alias, names that differ
            in capital letters only, or a wrong default.
    """
    if not row.__pydantic_complete__:
        raise InvalidExtractorError(
            f"{row.__name__} uses a name that is defined below it, or nowhere; define it above"
        )
    if not row.model_fields:
        raise InvalidExtractorError(f"{row.__name__} has no columns")
    types: dict[str, tuple[pa.DataType, bool]] = {}
    spelled: dict[str, str] = {}
    for name, field in row.model_fields.items():
        place = f"{row.__name__}.{name}"
        if field.alias or field.validation_alias:
            raise InvalidExtractorError(
                f"{place} has an alias; a column is called as its field is: rename the field"
            )
        if (other := spelled.setdefault(name.lower(), name)) != name:
            raise InvalidExtractorError(
                f"{place} differs from {other} in capital letters only, which engines that read "
                "tables do not tell apart; rename one of them"
            )
        types[name] = arrow_type(field.annotation, place)
    validators = _validators(row)
    columns = []
    for name, field in row.model_fields.items():
        kind, nullable = types[name]
        column = Column(
            name,
            row.__roles__[name],
            kind,
            nullable,
            field.description or "",
            field.is_required(),
            lambda field=field: field.get_default(call_default_factory=True),  # type: ignore[misc]
            validators[name],
            converter(field.annotation),
        )
        if not column.required and not field.default_factory_takes_validated_data:
            _check_default(column, f"{row.__name__}.{name}")
        columns.append(column)
    return tuple(columns)


def needs_row_path(row: type[Row]) -> bool:
    """Whether rows must be validated one by one, as more than one column at a time is looked at."""
    decorators = row.__pydantic_decorators__
    return bool(
        decorators.model_validators
        or decorators.root_validators
        or row.__init__ is not Row.__init__
        or row.model_post_init is not Row.model_post_init
        or row.model_config.get("extra") != Row.model_config["extra"]
        or any(map(looks_at_others, _model(row)[0].values()))
    )


def table_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """The Arrow schema of the table: stamped columns, then the row class's, all nullable."""
    own = [
        pa.field(
            column.name,
            column.type,
            metadata={"doc": column.description} if column.description else None,
        )
        for column in columns
        if column.name not in STAMPED
    ]
    return pa.schema([*STAMPED_FIELDS, *own])


def _validators(row: type[Row]) -> Mapping[str, Validate]:
    # From the class's own core schema, so that both paths, by row and by column, are one.
    fields, config, definitions = _model(row)
    validators = {}
    for name, field in fields.items():
        column: Any = core_schema.list_schema(field["schema"])
        if definitions:
            column = core_schema.definitions_schema(column, definitions)
        validators[name] = SchemaValidator(column, config).validate_python
    return validators


def _model(row: type[Row]) -> tuple[dict[str, Any], Any, list[Any]]:
    """Fields, configuration and definitions of a row class's core schema."""
    schema: Any = row.__pydantic_core_schema__
    definitions = schema["definitions"] if schema["type"] == "definitions" else []
    while schema["type"] != "model":
        schema = schema["schema"]
    return model_fields(schema), schema["config"], definitions


def _check_default(column: Column, place: str) -> None:
    try:
        column.validate([column.make_default()])
    except Exception:  # a validator or factory of the class's own raises what it likes
        raise InvalidExtractorError(
            f"{place}: its default is not of its own type; for nulls write `… | None = None`"
        ) from None
