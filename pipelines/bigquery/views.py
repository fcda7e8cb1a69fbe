"""What the dataset shows of a model: each row once, over all versions of its table, and joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from google.cloud.bigquery import SchemaField

from pipelines.bigquery.names import Dataset, joined_id, table_id, view_id
from pipelines.bigquery.schema import kind_of
from pipelines.joined import DELAY, LATEST, SHARED, actual_name

_VERSION, _ITEM, _PLACE = "weighbridge_version", "weighbridge_item", "weighbridge_place"


class Version(NamedTuple):
    """A table of a model: its full name, and its columns."""

    name: str
    columns: Sequence[SchemaField]


def columns_of_view(versions: Sequence[Version]) -> list[SchemaField]:
    """Columns of the latest version, which is the first, then those that only earlier ones have."""
    found: dict[str, SchemaField] = {}
    for version in versions:
        for column in version.columns:
            found.setdefault(column.name, column)
    return list(found.values())


def latest_view(dataset: Dataset, name: str, versions: Sequence[Version]) -> str:
    """The statement that makes the view of a model's table which shows each row once.

    The same row is there twice where the same envelope was loaded with two lists of files, or into
    two versions. A row is known by its id and its event time, so that a filter on the time can
    leave partitions unread.

    Args:
        dataset: where the tables are.
        name: full name of the first version of the table.
        versions: the tables, the latest version first, with all of their columns, named so that
            the view changes when a table does.
    """
    columns = columns_of_view(versions)
    names = [column.name for column in columns]
    newest = "ingest_time" if "ingest_time" in names else "event_time"
    if len(versions) == 1:
        rows = f"`{dataset.table(versions[0].name)}`"
        order = f"{newest} DESC"
    else:
        parts = [
            _select(dataset, version, columns, len(versions) - position)
            for position, version in enumerate(versions)
        ]
        rows = "(\n" + "\nUNION ALL\n".join(parts) + "\n)"
        order = f"{_VERSION} DESC, {newest} DESC"
    listed = ",\n  ".join(f"`{name}`" for name in names)
    return (
        f"CREATE OR REPLACE VIEW `{dataset}.{view_id(name)}`\n"
        f"OPTIONS (description = 'Each row of {table_id(name)} once') AS\n"
        f"SELECT\n  {listed}\n"
        f"FROM {rows}\n"
        "WHERE TRUE\n"
        "QUALIFY ROW_NUMBER() OVER (\n"
        f"  PARTITION BY row_id, event_time ORDER BY {order}\n"
        ") = 1"
    )


def joined_view(
    dataset: Dataset,
    name: str,
    columns: Sequence[SchemaField],
    actuals: str,
    actual_columns: Sequence[SchemaField],
) -> str:
    """The statement that makes the view which shows each prediction with its latest actual.

    Args:
        dataset: where the tables are.
        name: full name of the first version of the predictions' table.
        columns: the predictions' columns.
        actuals: full name of the first version of the actuals' table.
        actual_columns: their columns.
    """
    taken = [column.name for column in columns]
    listed = [f"prediction.`{column}`" for column in taken]
    for column in actual_columns:
        if column.name not in SHARED:
            shown = actual_name(column.name, taken)
            taken.append(shown)
            listed.append(f"actual.`{column.name}` AS `{shown}`")
    delay = DELAY if DELAY not in taken else actual_name(DELAY, taken)
    micros = "TIMESTAMP_DIFF(actual.event_time, prediction.event_time, MICROSECOND)"
    listed.append(f"{micros} / 1000000 AS `{delay}`")
    order = ", ".join(f"{column} DESC" for column in LATEST)
    selected = ",\n  ".join(listed)
    return (
        f"CREATE OR REPLACE VIEW `{dataset}.{joined_id(name)}`\n"
        f"OPTIONS (description = 'Rows of {table_id(name)}, each with its latest actual') AS\n"
        f"SELECT\n  {selected}\n"
        f"FROM `{dataset}.{view_id(name)}` AS prediction\n"
        "LEFT JOIN (\n"
        f"  SELECT * FROM `{dataset}.{view_id(actuals)}`\n"
        "  WHERE TRUE\n"
        f"  QUALIFY ROW_NUMBER() OVER (PARTITION BY prediction_id ORDER BY {order}) = 1\n"
        ") AS actual\n"
        "ON actual.prediction_id = prediction.prediction_id"
    )


def _select(dataset: Dataset, version: Version, columns: Sequence[SchemaField], number: int) -> str:
    own = {column.name: column for column in version.columns}
    listed = [
        f"{_value(f'`{column.name}`', own.get(column.name), column)} AS `{column.name}`"
        for column in columns
    ]
    selected = ",\n  ".join([*listed, f"{number} AS {_VERSION}"])
    return f"SELECT\n  {selected}\nFROM `{dataset.table(version.name)}`"


def _value(path: str, old: SchemaField | None, new: SchemaField) -> str:
    """A column as a newer version has it; null where it cannot be."""
    if old is not None and _type(old) == _type(new):
        return path
    if old is None or (old.mode == "REPEATED") != (new.mode == "REPEATED"):
        return f"CAST(NULL AS {_type(new)})"
    records = bool(old.fields), bool(new.fields)
    if all(records):
        within = _ITEM if new.mode == "REPEATED" else path
        inner = {each.name: each for each in old.fields}
        parts = ", ".join(
            f"{_value(f'{within}.`{each.name}`', inner.get(each.name), each)} AS `{each.name}`"
            for each in new.fields
        )
        if new.mode != "REPEATED":
            return f"IF({path} IS NULL, NULL, STRUCT({parts}))"
        items = f"UNNEST({path}) AS {_ITEM} WITH OFFSET AS {_PLACE} ORDER BY {_PLACE}"
        return f"ARRAY(SELECT AS STRUCT {parts} FROM {items})"
    if any(records) or new.mode == "REPEATED":
        return f"CAST(NULL AS {_type(new)})"
    return f"SAFE_CAST({path} AS {_type(new)})"


_SQL = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}


def _type(column: SchemaField) -> str:
    """A type as SQL writes it."""
    kind = kind_of(column).removeprefix("repeated ")
    kind = _SQL.get(kind, kind)
    if kind == "RECORD":
        kind = f"STRUCT<{', '.join(f'`{each.name}` {_type(each)}' for each in column.fields)}>"
    return f"ARRAY<{kind}>" if column.mode == "REPEATED" else kind
