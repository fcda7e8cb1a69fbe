"""The row class that a data scientist derives from, and types that JSON needs help with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, get_args

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, PydanticUndefined

from schemas._strictness import adjust_strictness
from schemas.errors import InvalidExtractorError
from schemas.roles import Feature, Role, TableOnly, Tag
from weighbridge.plain import RFC3339

STAMPED = (
    "envelope_id",
    "row_id",
    "prediction_id",
    "model_id",
    "model_version",
    "event_time",
    "ingest_time",
    "extractor_version",
)
"""Columns that Weighbridge adds to every row."""
RESERVED = (*STAMPED, "event_day")
"""Names that no other column can have: these, and that of the partitions by day."""

ClassScores = dict[str, float]
"""Score per class; stored as list<struct<class_name, score>> in tables and in Arize."""


def _parse_time(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not RFC3339.fullmatch(value):
        raise PydanticCustomError(
            "weighbridge_time", "Input should be RFC 3339 text with offset, 2026-01-31T12:00:00Z"
        )
    try:
        moment = datetime.fromisoformat(value.upper())
        if moment.year in (1, 9999):
            moment.astimezone(UTC)  # which may lie beyond the years there are
        return moment
    except (OverflowError, ValueError):
        raise PydanticCustomError(
            "weighbridge_time", "Input should be a time that exists"
        ) from None


def _nan_to_null(value: object) -> object:
    return None if isinstance(value, float) and value != value else value


Timestamp = Annotated[AwareDatetime, BeforeValidator(_parse_time)]
"""RFC 3339 text or an aware datetime; a time without offset is refused."""
NanAsNull = BeforeValidator(_nan_to_null)
"""For services that write NaN for 'missing': Annotated[float | None, Feature, NanAsNull]."""


def _roles_inside(annotation: Any) -> Iterator[Role]:
    for item in get_args(annotation):
        if isinstance(item, Role):
            yield item
        else:
            yield from _roles_inside(item)


class Row(BaseModel):
    """One row of a model's table.

    Columns without a role get `default_role`: `class Payment(Row, default_role=Feature)`. Types are
    strict ("0.5" is no float, True no int), but enums take their value and tuples a list, as JSON
    has neither.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        validate_default=True,
        # Refused as a column all the same, with a message that says which types there are.
        arbitrary_types_allowed=True,
    )
    # Named so that columns can be called "roles".
    __roles__: ClassVar[Mapping[str, Role]] = {}
    __default_role__: ClassVar[Role] = TableOnly

    def __init_subclass__(cls, *, default_role: Role | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, annotation in vars(cls).get("__annotations__", {}).items():
            if isinstance(annotation, Role):
                raise InvalidExtractorError(
                    f"{cls.__name__}.{name}: {annotation} is a role and no type; "
                    f"write Annotated[str, {annotation}], or another type"
                )
            role = getattr(annotation, "__origin__", None)
            if isinstance(role, Role):
                raise InvalidExtractorError(
                    f"{cls.__name__}.{name}: the type comes first; write Annotated[…, {role}]"
                )

    @classmethod
    def __pydantic_init_subclass__(cls, *, default_role: Role | None = None, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if default_role is not None:
            if default_role not in (Feature, Tag, TableOnly):
                raise InvalidExtractorError(
                    f"{cls.__name__}: default_role is Feature, Tag or TableOnly"
                )
            cls.__default_role__ = default_role
        cls.__roles__ = {name: cls._role(name) for name in cls.model_fields}
        cls._refuse_hidden()

    @classmethod
    def _refuse_hidden(cls) -> None:
        """Pydantic would quietly leave them out of the columns."""
        for name, private in cls.__private_attributes__.items():
            if private.default is PydanticUndefined and private.default_factory is None:
                raise InvalidExtractorError(
                    f"{cls.__name__}.{name}: a column's name cannot begin with _; rename it"
                )

    @classmethod
    def _role(cls, name: str) -> Role:
        column, field = f"{cls.__name__}.{name}", cls.model_fields[name]
        found = [item for item in field.metadata if isinstance(item, Role)]
        if len(found) > 1:
            raise InvalidExtractorError(
                f"{column} has {len(found)} roles ({', '.join(map(str, found))}); give it one"
            )
        inside = next(_roles_inside(field.annotation), None)
        if inside is not None:
            raise InvalidExtractorError(
                f"{column}: its role is hidden inside of its type; write Annotated[…, {inside}] "
                "around all of it, with `| None` inside"
            )
        inherited = (vars(base).get("__roles__", {}).get(name) for base in cls.__mro__[1:])
        role = found[0] if found else next(filter(None, inherited), cls.__default_role__)
        if role.of is not None and not role.needs_name:
            raise InvalidExtractorError(
                f"{column}: {role} takes no name; write {dataclasses.replace(role, of=None)}"
            )
        if role.needs_name and not role.of:
            raise InvalidExtractorError(
                f'{column}: {role} needs the name it belongs to, e.g. {role}("review")'
            )
        if name in RESERVED and (name, role.kind) != ("prediction_id", "prediction_id"):
            remedy = "give it the role PredictionId" if name == "prediction_id" else "rename it"
            raise InvalidExtractorError(
                f"{column}: Weighbridge stamps a column of this name itself; {remedy}"
            )
        return role

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        schema = handler(source)
        adjust_strictness(schema, handler)
        return schema
