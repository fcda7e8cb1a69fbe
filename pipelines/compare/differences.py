"""How two sides differ: rows by their ids, and columns by statistics that hold no value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.compare.side import Side
from schemas.row import STAMPED

QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class ColumnFigures:
    """Statistics of a column; of numbers, also those that are numbers."""

    nulls: float
    """share of null values, 0 to 1"""
    distinct: int | None = None
    mean: float | None = None
    quantiles: Sequence[float] = ()


@dataclass(frozen=True)
class ColumnChange:
    """A column on both sides; None where it is not there. `changed`: rows of another value."""

    name: str
    before: ColumnFigures | None
    now: ColumnFigures | None
    changed: int


@dataclass(frozen=True)
class Differences:
    """How the rows of two sides differ; `fails_now` and `failed_before` are envelopes."""

    added: int
    gone: int
    changed: int
    same: int
    fails_now: int
    failed_before: int
    fails_on_both: int
    columns: list[ColumnChange]

    @property
    def none(self) -> bool:
        """Whether both sides are equal."""
        return not (self.added or self.gone or self.changed or self.fails_now or self.failed_before)


def differences(before: Side, now: Side) -> Differences:
    """Compare the rows of the same envelopes. Stamped columns are not looked at, but ids."""
    old_ids, new_ids = (side.rows["row_id"].cast(pa.string()) for side in (before, now))
    old = before.rows.filter(pc.is_in(old_ids, value_set=new_ids.combine_chunks()))
    new = now.rows.filter(pc.is_in(new_ids, value_set=old_ids.combine_chunks()))
    names = [*(n for n in now.rows.column_names if n not in STAMPED or n == "prediction_id")]
    names += [n for n in before.rows.column_names if n not in STAMPED and n not in names]
    any_changed = np.zeros(new.num_rows, bool)
    columns = []
    for name in names:
        differs = _differs(old, new, name)
        any_changed |= differs
        columns.append(
            ColumnChange(name, _figures(before, name), _figures(now, name), int(differs.sum()))
        )
    changed = int(any_changed.sum())
    return Differences(
        added=now.rows.num_rows - new.num_rows,
        gone=before.rows.num_rows - old.num_rows,
        changed=changed,
        same=new.num_rows - changed,
        fails_now=len(now.failed.keys() - before.failed.keys()),
        failed_before=len(before.failed.keys() - now.failed.keys()),
        fails_on_both=len(before.failed.keys() & now.failed.keys()),
        columns=columns,
    )


def _differs(old: pa.Table, new: pa.Table, name: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """For each common row, whether a column has another value; a missing one has nulls."""
    count = new.num_rows
    left, right = (
        rows[name].combine_chunks() if name in rows.column_names else pa.nulls(count)
        for rows in (old, new)
    )
    if pa.types.is_nested(left.type) or pa.types.is_nested(right.type):
        pairs = zip(left.to_pylist(), right.to_pylist())
        return np.fromiter((_plain(a) != _plain(b) for a, b in pairs), bool, count)
    if pa.types.is_null(left.type) or pa.types.is_null(right.type):
        return np.asarray(pc.xor(left.is_null(), right.is_null()))
    if left.type != right.type:
        try:
            left = left.cast(right.type)
        except pa.ArrowInvalid:
            return np.ones(count, bool)
    unequal = pc.fill_null(pc.not_equal(left, right), False)
    if pa.types.is_floating(right.type):  # NaN is the same as NaN
        unequal = pc.and_not(unequal, pc.and_(_is_nan(left), _is_nan(right)))
    return np.asarray(pc.or_(unequal, pc.xor(left.is_null(), right.is_null())))


def _plain(value: object) -> object:
    """Maps come as lists of pairs, in any order."""
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return sorted(value, key=str)
    return value


def _is_nan(values: pa.Array) -> pa.Array:
    return pc.fill_null(pc.is_nan(values), False)


def _figures(side: Side, name: str) -> ColumnFigures | None:
    if name not in side.rows.column_names:
        return None
    values, count = side.rows[name], side.rows.num_rows
    nulls = values.null_count / count if count else 0.0
    if pa.types.is_nested(values.type):
        return ColumnFigures(nulls)
    distinct = int(pc.count_distinct(values).as_py())
    numbers = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if not numbers or values.null_count == count:
        return ColumnFigures(nulls, distinct)
    found = values.drop_null().cast(pa.float64()).to_numpy()
    found = found[~np.isnan(found)]
    if not len(found):
        return ColumnFigures(nulls, distinct)
    quantiles = [float(value) for value in np.quantile(found, QUANTILES)]
    return ColumnFigures(nulls, distinct, float(found.mean()), quantiles)
