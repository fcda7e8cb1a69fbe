"""Strict types, but for what JSON has no type of its own: enums take their value, tuples a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema


def adjust_strictness(schema: Any, fields: Mapping[str, FieldInfo]) -> None:
    """Loosen enums and tuples in a strict model's core schema, and tighten Literal[1]."""
    for name, field in model_fields(schema).items():
        _relax_tuples(field)
        before = _before(fields[name].annotation)
        if before is not None:
            # Inside the default, or the column would have none.
            holder = field["schema"] if field["schema"]["type"] == "default" else field
            inner = holder["schema"]
            holder["schema"] = core_schema.no_info_before_validator_function(before, inner)


def model_fields(schema: Any) -> dict[str, Any]:
    """The fields of a model's core schema, through whatever wraps them."""
    while schema["type"] != "model-fields":
        if "schema" not in schema:
            return {}
        schema = schema["schema"]
    fields: dict[str, Any] = schema["fields"]
    return fields


def without_none(annotation: Any) -> tuple[Any, bool]:
    """The annotation without `| None`, and whether it had it."""
    if get_origin(annotation) in (Union, UnionType):
        rest = [item for item in get_args(annotation) if item is not NoneType]
        if len(rest) < len(get_args(annotation)):
            return (rest[0] if len(rest) == 1 else Union[tuple(rest)]), True  # noqa: UP007
    return annotation, False


def _before(annotation: Any) -> Callable[[Any], Any] | None:
    inner, _ = without_none(annotation)
    if isinstance(inner, type) and issubclass(inner, Enum):
        members: dict[Any, Any] = {member.value: member for member in inner}
        listed = ", ".join(map(repr, members))

        def member_of(value: Any) -> Any:
            if value is None or isinstance(value, inner):
                return value
            if isinstance(value, str | int) and value in members:
                return members[value]
            raise PydanticCustomError("weighbridge_enum", f"Input should be one of {listed}")

        return member_of
    if get_origin(inner) is Literal:
        kinds = frozenset(map(type, get_args(inner)))
        if bool in kinds or int in kinds:

            def exact(value: Any) -> Any:
                # 1 == True == 1.0: without this each would be taken for the others.
                if value is not None and type(value) not in kinds:
                    raise PydanticCustomError(
                        "weighbridge_literal", f"Input should be of type {_names(kinds)}"
                    )
                return value

            return exact
    return None


def _names(kinds: frozenset[type]) -> Any:
    return " or ".join(sorted(kind.__name__ for kind in kinds))


def _relax_tuples(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("type") == "tuple":
            node["strict"] = False
        for value in node.values():
            _relax_tuples(value)
    elif isinstance(node, list):
        for value in node:
            _relax_tuples(value)
