"""Column types: from annotations of a row class to Arrow, and from values to arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

import pyarrow as pa
from pydantic import AwareDatetime, BaseModel

from schemas._instead import instead_of
from schemas._strictness import without_none
from schemas.errors import InvalidExtractorError
from schemas.row import STAMPED, ClassScores

TIME = pa.timestamp("us", "UTC")
CLASS_SCORES = pa.list_(pa.struct([("class_name", pa.string()), ("score", pa.float64())]))
STAMPED_FIELDS = tuple(
    pa.field(name, TIME if name.endswith("_time") else pa.string()) for name in STAMPED
)
_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    AwareDatetime: TIME,
    date: pa.date32(),
    bytes: pa.binary(),
}
_KNOWN = (
    "str, int, float, bool, bytes, date, Timestamp, Literal, str-Enum, ClassScores, "
    "a list of these, or a pydantic model"
)


def arrow_type(
    annotation: Any, column: str, within: tuple[type, ...] = ()
) -> tuple[pa.DataType, bool]:
    """The Arrow type of a column and whether it may be null.

    Args:
        annotation: the field's annotation.
        column: its name, for the error.
        within: the nested models that it is a part of.

    Raises:
        InvalidExtractorError: a type that tables have no column for.
    """
    inner, optional = without_none(_plain(annotation))
    return _type(_plain(inner), column, within), optional


def converter(annotation: Any) -> Callable[[Any], Any] | None:
    """What makes validated values of this annotation digestible for Arrow; None if they are.

    It is not called for None.
    """
    inner = _plain(without_none(_plain(annotation))[0])
    if inner == ClassScores:
        return _class_scores
    if isinstance(inner, type) and issubclass(inner, Enum):
        return lambda member: getattr(member, "value", member)  # use_enum_values leaves the value
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        fields = [(name, converter(field.annotation)) for name, field in inner.model_fields.items()]
        return lambda model: {
            name: _converted(getattr(model, name), convert) for name, convert in fields
        }
    if get_origin(inner) in (list, tuple):
        item = next(filter(None, map(converter, get_args(inner))), None)
        if item is not None:
            return lambda items: [_converted(each, item) for each in items]
    return None


def to_array(
    values: Sequence[Any], kind: pa.DataType, convert: Callable[[Any], Any] | None = None
) -> tuple[pa.Array, list[int]]:
    """The values as an array, and the positions of those that the type cannot hold (null there)."""
    try:
        return _array(values, kind, convert), []
    except _MISFITS:
        kept, bad = list(values), []
        for position, value in enumerate(values):
            try:
                _array([value], kind, convert)
            except _MISFITS:
                kept[position] = None
                bad.append(position)
        return _array(kept, kind, convert), bad


# LookupError and AttributeError: rows that were made by model_construct hold anything.
_MISFITS = (pa.ArrowException, AttributeError, LookupError, OverflowError, TypeError, ValueError)


def _array(
    values: Sequence[Any], kind: pa.DataType, convert: Callable[[Any], Any] | None
) -> pa.Array:
    if convert is not None:
        values = [_converted(value, convert) for value in values]
    return pa.array(values, kind)


def _converted(value: Any, convert: Callable[[Any], Any] | None) -> Any:
    return value if value is None or convert is None else convert(value)


def _plain(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _type(annotation: Any, column: str, within: tuple[type, ...]) -> pa.DataType:
    if annotation == ClassScores:
        return CLASS_SCORES
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if get_origin(annotation) is Literal:
        return _common({type(value) for value in get_args(annotation)}, column)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _common({type(member.value) for member in annotation}, column)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _struct(annotation, column, within)
    if get_origin(annotation) in (list, tuple):
        parts = [item for item in get_args(annotation) if item is not ...]
        items = {arrow_type(item, column, within)[0] for item in parts}
        if len(items) == 1:
            return pa.list_(items.pop())
    use = instead_of(annotation) or f"{_KNOWN} (`| None` for nulls)"
    raise InvalidExtractorError(f"{column}: no table column for {_name(annotation)}; use {use}")


def _struct(model: type[BaseModel], column: str, within: tuple[type, ...]) -> pa.DataType:
    if model in within:
        raise InvalidExtractorError(f"{column}: {model.__name__} holds itself")
    if not model.model_fields:
        raise InvalidExtractorError(f"{column}: {model.__name__} has no fields")
    return pa.struct(
        [
            (name, arrow_type(field.annotation, f"{column}.{name}", (*within, model))[0])
            for name, field in model.model_fields.items()
        ]
    )


def _common(kinds: set[type], column: str) -> pa.DataType:
    if len(kinds) == 1 and (kind := kinds.pop()) in (str, int, bool):
        return _SCALARS[kind]
    raise InvalidExtractorError(
        f"{column}: all its values must be str, or all int (`| None` outside for nulls)"
    )


def _name(annotation: Any) -> str:
    if not isinstance(annotation, type):
        return str(annotation)
    foreign = annotation.__module__.partition(".")[0] in ("numpy", "pandas")  # they have a `bool`
    return f"{annotation.__module__.partition('.')[0]}." * foreign + annotation.__name__


def _class_scores(scores: dict[str, float]) -> list[dict[str, Any]]:
    return [{"class_name": name, "score": score} for name, score in scores.items()]
