"""Arize's row rules that do not depend on the clock, on whole columns.

One row that breaks one of them makes the SDK refuse its whole batch, so that they are checked
before rows are written. The limits are those of the installed SDK.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from schemas.arize import ModelType, sdk_limits
from schemas.arrow import CLASS_SCORES
from schemas.columns import Column

Check = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True)
class RowRule:
    """A rule about one column: `broken` is true for each row that breaks it (null means no)."""

    column: str
    cause: str
    broken: Check


def row_rules(columns: tuple[Column, ...], model_type: ModelType) -> tuple[RowRule, ...]:
    """The rules for these columns; none for an untyped model."""
    if model_type == "untyped":
        return ()
    limits = sdk_limits()
    rules = [
        RowRule(
            "prediction_id",
            f"Arize takes 1 to {limits.MAX_PREDICTION_ID_LEN} characters that are not all blank",
            _no_id(limits.MAX_PREDICTION_ID_LEN),
        )
    ]
    for column in columns:
        rules += [
            RowRule(column.name, cause, broken) for cause, broken in _rules_of(column, limits)
        ]
    return tuple(rules)


def outcome_columns(columns: tuple[Column, ...]) -> tuple[str, ...]:
    """The outcome columns of which Arize wants at least one in each row; () if one always is."""
    kinds = {"prediction_label", "prediction_score", "actual_label", "actual_score"}
    kinds |= {"relevance_label", "relevance_score"}
    outcomes = [column for column in columns if column.role.kind in kinds]
    if not outcomes or not all(column.nullable for column in outcomes):
        return ()
    return tuple(column.name for column in outcomes)


def _rules_of(column: Column, limits: object) -> list[tuple[str, Check]]:
    role = column.role.kind
    number: Callable[[str], int] = lambda name: int(getattr(limits, name))  # noqa: E731
    if role == "group_id":
        most = number("MAX_PREDICTION_ID_LEN")
        return [(f"Arize takes 1 to {most} characters", _no_id(most))]
    if role == "rank":
        return [
            ("Arize takes ranks from 1 to 100", lambda a: pc.or_(pc.less(a, 1), pc.greater(a, 100)))
        ]
    if role == "tag" and column.type == pa.string():
        most = number("MAX_TAG_LENGTH")
        return [(f"Arize takes tags of up to {most} characters", _longer(most))]
    if (
        role in ("prediction_label", "actual_label", "relevance_label")
        and column.type == pa.string()
    ):
        return [("a class label must not be empty", lambda a: pc.equal(pc.utf8_length(a), 0))]
    if role == "relevance_label":
        return [("a relevance label must not be empty", _empty_labels)]
    if role == "embedding_vector":
        most = number("MAX_EMBEDDING_DIMENSIONALITY")
        return [(f"Arize takes vectors of 2 to {most} finite numbers", _no_vector(most))]
    if role == "embedding_text":
        most = number("MAX_RAW_DATA_CHARACTERS")
        return [(f"Arize takes texts of up to {most} characters", _longer(most))]
    if column.type == CLASS_SCORES and role in ("prediction_score", "actual_score"):
        return _class_rules(role, number)
    return []


def _class_rules(role: str, number: Callable[[str], int]) -> list[tuple[str, Check]]:
    most, longest = (
        number("MAX_NUMBER_OF_MULTI_CLASS_CLASSES"),
        number("MAX_MULTI_CLASS_NAME_LENGTH"),
    )
    if role == "actual_score":
        cause = "Arize takes 0 or 1 as actual score of a class"
        wrong: Check = lambda s: pc.invert(pc.is_in(s, value_set=pa.array([0.0, 1.0])))  # noqa: E731
    else:
        cause = "Arize takes class scores from 0 to 1"
        wrong = lambda s: pc.or_(pc.less(s, 0), pc.greater(s, 1))  # noqa: E731

    def names(items: pa.Array) -> pa.Array:
        length = pc.utf8_length(pc.struct_field(items, "class_name"))
        return pc.or_(pc.less(length, 1), pc.greater(length, longest))

    return [
        (f"Arize takes 1 to {most} classes", _outside(1, most)),
        (f"Arize takes class names of 1 to {longest} characters", _any_item(names)),
        (cause, _any_item(lambda items: wrong(pc.struct_field(items, "score")))),
    ]


def _no_id(most: int) -> Check:
    def broken(ids: pa.Array) -> pa.Array:
        blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(ids)), 0)
        return pc.or_(blank, pc.greater(pc.utf8_length(ids), most))

    return broken


def _longer(most: int) -> Check:
    def broken(values: pa.Array) -> pa.Array:
        if pa.types.is_list(values.type):
            return _any_item(lambda items: pc.greater(pc.utf8_length(items), most))(values)
        return pc.greater(pc.utf8_length(values), most)

    return broken


def _outside(least: int, most: int) -> Check:
    def broken(lists: pa.Array) -> pa.Array:
        length = pc.list_value_length(lists)
        return pc.or_(pc.less(length, least), pc.greater(length, most))

    return broken


def _no_vector(most: int) -> Check:
    return _outside(2, most)  # NaN was refused by the row class already


def _empty_labels(lists: pa.Array) -> pa.Array:
    none = pc.equal(pc.list_value_length(lists), 0)
    return pc.or_(none, _any_item(lambda items: pc.equal(pc.utf8_length(items), 0))(lists))


def _any_item(check: Check) -> Check:
    """Rows of a list column of which any item fails the check."""

    def broken(lists: pa.Array) -> pa.Array:
        bad = pc.fill_null(check(pc.list_flatten(lists)), False)
        rows = pc.unique(pc.list_parent_indices(lists).filter(bad))
        return pc.is_in(pa.array(range(len(lists)), pa.int64()), value_set=rows.cast(pa.int64()))

    return broken
