"""Rows in the columns of a newer row class."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_MISFITS = (pa.ArrowInvalid, pa.ArrowNotImplementedError)


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with exactly the columns of a schema.

    A column that they lack is null, and so is each value that its type cannot hold: the text "7" is
    the number 7, and the text "seven" is none.
    """
    columns = []
    for item in schema:
        if item.name not in rows.column_names:
            columns.append(pa.nulls(rows.num_rows, item.type))
        elif rows.schema.field(item.name).type == item.type:
            columns.append(rows[item.name])
        else:
            columns.append(_cast(rows[item.name], item.type))
    return pa.Table.from_arrays(columns, schema=schema.remove_metadata())


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    try:
        return column.cast(kind)
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(column), kind)
    except pa.ArrowInvalid:
        pass
    if pa.types.is_nested(column.type):
        return pa.concat_arrays([_one(value, kind) for value in column])
    values = column.unique()
    fitting = pa.concat_arrays([_one(value, kind) for value in values])
    return fitting.take(pc.index_in(column.combine_chunks(), value_set=values))


def _one(value: pa.Scalar, kind: pa.DataType) -> pa.Array:
    try:
        return pa.array([value.as_py()], value.type).cast(kind)
    except _MISFITS:
        return pa.nulls(1, kind)
