"""Column types: from annotations of a row class to Arrow, and from values to arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

import pyarrow as pa
from pydantic import AwareDatetime, BaseModel

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


def arrow_type(annotation: Any, column: str) -> tuple[pa.DataType, bool]:
    """The Arrow type of a column and whether it may be null.

    Args:
        annotation: the field's annotation.
        column: its name, for the error.

    Raises:
        InvalidExtractorError: a type that tables have no column for.
    """
    inner, optional = without_none(annotation)
    return _type(inner, column), optional


def converter(annotation: Any) -> Callable[[Any], Any] | None:
    """What makes validated values of this annotation digestible for Arrow; None if they are."""
    inner, _ = without_none(_plain(annotation))
    if inner == ClassScores:
        return _class_scores
    if isinstance(inner, type) and issubclass(inner, Enum):
        return lambda member: None if member is None else member.value
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return lambda model: None if model is None else model.model_dump()
    if get_origin(inner) is list:
        item = converter(get_args(inner)[0])
        if item is not None:
            return lambda items: None if items is None else [item(each) for each in items]
    return None


def to_array(values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """The values as an array, and the positions of those that the type cannot hold (null there)."""
    try:
        return pa.array(values, kind), []
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError, TypeError):
        kept, bad = list(values), []
        for position, value in enumerate(values):
            try:
                pa.array([value], kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError, TypeError):
                kept[position] = None
                bad.append(position)
        return pa.array(kept, kind), bad


def _plain(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _type(annotation: Any, column: str) -> pa.DataType:
    annotation = _plain(annotation)
    if annotation == ClassScores:
        return CLASS_SCORES
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if get_origin(annotation) is Literal:
        return _common({type(value) for value in get_args(annotation)}, column)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _common({type(member.value) for member in annotation}, column)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return pa.struct(
            [(name, arrow_type(field.annotation, f"{column}.{name}")[0]) for name, field in fields]
        )
    if get_origin(annotation) is list:
        return pa.list_(arrow_type(get_args(annotation)[0], column)[0])
    if get_origin(annotation) is tuple:
        items = {arrow_type(item, column)[0] for item in get_args(annotation) if item is not ...}
        if len(items) == 1:
            return pa.list_(items.pop())
    raise InvalidExtractorError(
        f"{column}: no table column for {_name(annotation)}; use {_KNOWN} (`| None` for nulls)"
    )


def _common(kinds: set[type], column: str) -> pa.DataType:
    if len(kinds) == 1 and (kind := kinds.pop()) in (str, int, bool):
        return _SCALARS[kind]
    raise InvalidExtractorError(f"{column}: all its values must be str, or all int")


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _class_scores(scores: dict[str, float] | None) -> list[dict[str, Any]] | None:
    if scores is None:
        return None
    return [{"class_name": name, "score": score} for name, score in scores.items()]
