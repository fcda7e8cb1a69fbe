"""What may change in a table that holds rows: by what, and what is said where it may not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from extractors import Extractor
from schemas import ConfigurationError

_WIDER = {pa.int32(): pa.int64(), pa.float32(): pa.float64()}


@dataclass(frozen=True)
class Change:
    """A column, or a field in one, that a table has otherwise than a row class.

    Attributes:
        path: its name, behind those of the columns that it is in.
        old: its type in the table, None if it is new.
        new: its type in the row class, None if a required one is missing. As `old` if it is
            required in the table and may be null in the row class.
    """

    path: str
    old: pa.DataType | None
    new: pa.DataType | None

    @property
    def allowed(self) -> bool:
        """Whether old rows can be read by it, and new ones be written."""
        if self.old is None or self.old == self.new:
            return True
        if self.new is None:
            return False
        if pa.types.is_list(self.old) and pa.types.is_list(self.new):
            return Change(self.path, self.old.value_type, self.new.value_type).allowed
        return bool(_WIDER.get(self.old) == self.new)

    def __str__(self) -> str:
        if self.old is None:
            return f"added {self.path}"
        if self.old == self.new:
            return f"{self.path} may be null now"
        return f"widened {self.path} from {self.old} to {self.new}"


def changes(stored: Iterable[pa.Field], wanted: Iterable[pa.Field]) -> list[Change]:
    """How a table must change to hold rows of a row class; what only the table has is left alone.

    Args:
        stored: the columns of the table.
        wanted: those of the row class, all of which may be null.
    """
    return list(_in_fields("", stored, wanted))


def refusal(
    table: str, column: str, old: object, new: object, extractor: Extractor | None
) -> ConfigurationError:
    """The error for a change that a table cannot follow, with the remedy.

    Args:
        table: full name of the table.
        column: the column, or the path to a field in it.
        old: its type in the table.
        new: its type in the row class, None if the class has no such column.
        extractor: whose table it is, None for the platform's own.
    """
    if extractor is None:
        says = f"this version of Weighbridge wants {new}; run the version that made the table"
        return ConfigurationError(f"table {table}: column {column} is {old}, and {says}")
    following = extractor.table_version + 1
    another = f"begin a new table with table_version={following} in its @extractor"
    if new is None:
        return ConfigurationError(
            f"table {table}: column {column} is required there, and the row class has none; "
            f"let it be null in the table, or {another}"
        )
    name = column.partition(".")[0]
    roles = {item.name: item.role.kind for item in extractor.shape().columns}
    role = roles.get(name) if extractor.pushed else None
    pinned = role in ("feature", "tag")
    arize = f"; Arize keeps the type of a {role}, so rename it, too" if pinned else ""
    return ConfigurationError(
        f"table {table}: column {column} is {old}, and the row class says {new}; keep the type "
        f"and add a column of another name, or {another}{arize}"
    )


def taken(table: str, owner: str, extractor: Extractor) -> ConfigurationError:
    """The error where the table of an extractor holds rows of another model."""
    return ConfigurationError(
        f"table {table} holds rows of the model {owner}, and {extractor.model_id} would write to "
        f"it; give {extractor.model_id} table_version={extractor.table_version + 1}, or another id"
    )


def plain_type(kind: pa.DataType) -> pa.DataType:
    """A type as a row class would say it: PyIceberg reads texts and bytes as the large types."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([(item.name, plain_type(item.type)) for item in kind])
    return kind


def _in_fields(
    within: str, stored: Iterable[pa.Field], wanted: Iterable[pa.Field]
) -> Iterator[Change]:
    left = {item.name: item for item in stored}
    for item in wanted:
        path, old = f"{within}{item.name}", left.pop(item.name, None)
        if old is None:
            yield Change(path, None, item.type)
            continue
        if not old.nullable:
            yield Change(path, plain_type(item.type), plain_type(item.type))
        yield from _in_type(path, plain_type(old.type), plain_type(item.type))
    for old in left.values():
        if not old.nullable:
            yield Change(f"{within}{old.name}", plain_type(old.type), None)


def _in_type(path: str, old: pa.DataType, new: pa.DataType) -> Iterator[Change]:
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        yield from _in_fields(f"{path}.", old, new)
    elif pa.types.is_list(old) and pa.types.is_list(new):
        for change in _in_type(path, old.value_type, new.value_type):
            if change.path != path:
                yield change
            else:  # the items themselves: said as the column is
                yield Change(path, pa.list_(change.old), pa.list_(change.new))
    elif pa.types.is_map(old) and pa.types.is_map(new):
        yield from _in_type(f"{path}.key", old.key_type, new.key_type)
        yield from _in_type(f"{path}.value", old.item_type, new.item_type)
    elif old != new:
        yield Change(path, old, new)
