"""Strict types, but for what JSON has no type of its own: enums take their value, tuples a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema


def adjust_strictness(schema: Any, handler: GetCoreSchemaHandler) -> None:
    """Loosen enums and tuples in a strict model's core schema, and tighten Literal[1]."""
    for field in model_fields(schema).values():
        # A list first: what is put around a node must not be walked again.
        for node in list(_nodes(field)):
            if node["type"] == "tuple":
                node["strict"] = False
            # One that a class uses more than once is a reference.
            known = handler.resolve_ref_schema(node) if node["type"] == "definition-ref" else node
            before = _before(known)
            if before is not None:
                # Next to the type, so that validators of the column's own see the value first.
                inner = dict(node)
                node.clear()
                node.update(core_schema.no_info_before_validator_function(before, inner))


def model_fields(schema: Any) -> dict[str, Any]:
    """The fields of a model's core schema, through whatever wraps them."""
    while schema["type"] != "model-fields":
        if "schema" not in schema:
            return {}
        schema = schema["schema"]
    fields: dict[str, Any] = schema["fields"]
    return fields


def looks_at_others(field: Any) -> bool:
    """Whether a field's core schema has a validator or default that is given other columns too."""
    return any(
        node.get("function", {}).get("type") == "with-info"
        or node.get("default_factory_takes_data")
        for node in _nodes(field)
    )


def without_none(annotation: Any) -> tuple[Any, bool]:
    """The annotation without `| None`, and whether it had it."""
    if get_origin(annotation) in (Union, UnionType):
        rest = [item for item in get_args(annotation) if item is not NoneType]
        if len(rest) < len(get_args(annotation)):
            return (rest[0] if len(rest) == 1 else Union[tuple(rest)]), True  # noqa: UP007
    return annotation, False


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """A field's schema and those in it; a nested model has strictness of its own."""
    if isinstance(schema, list):
        for item in schema:
            yield from _nodes(item)
    elif isinstance(schema, dict) and schema.get("type") != "model":
        if schema["type"] != "model-field":
            yield schema
        for key, value in schema.items():
            if key.endswith("schema") or key == "choices":
                yield from _nodes(value)


def _before(schema: Mapping[str, Any]) -> Callable[[Any], Any] | None:
    if schema["type"] == "enum":
        kind = schema["cls"]
        members: dict[Any, Any] = {(type(m.value), m.value): m for m in kind}
        listed = ", ".join(repr(member.value) for member in kind)

        def member_of(value: Any) -> Any:
            if isinstance(value, kind):
                return value
            # By type too, as 1 == True == 1.0.
            if isinstance(value, str | int) and (type(value), value) in members:
                return members[type(value), value]
            raise PydanticCustomError("weighbridge_enum", f"Input should be one of {listed}")

        return member_of
    if schema["type"] == "literal":
        kinds = frozenset(map(type, schema["expected"]))
        if bool in kinds or int in kinds:
            names: Any = " or ".join(sorted(kind.__name__ for kind in kinds))

            def exact(value: Any) -> Any:
                # 1 == True == 1.0: without this each would be taken for the others.
                if type(value) not in kinds:
                    raise PydanticCustomError(
                        "weighbridge_literal", f"Input should be of type {names}"
                    )
                return value

            return exact
    return None
