"""Arize's row rules that do not depend on the clock, on whole columns.

One row that breaks one of them makes the SDK refuse its whole batch, so that they are checked
before rows are written. The limits are those of the installed SDK.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    rules = [RowRule("prediction_id", *_id_rule(limits))]
    for column in columns:
        rules += [RowRule(column.name, *rule) for rule in _rules_of(column, limits)]
    return tuple(rules)


def outcome_columns(columns: tuple[Column, ...]) -> tuple[str, ...]:
    """The columns of which Arize wants at least one not null in each row; () if one always is."""
    kinds = {"prediction_label", "prediction_score", "actual_label", "actual_score", "shap_value"}
    kinds |= {"group_id", "rank", "relevance_label", "relevance_score"}
    outcomes = [column for column in columns if column.role.kind in kinds]
    if not outcomes or not all(column.nullable for column in outcomes):
        return ()
    return tuple(column.name for column in outcomes)


def _rules_of(column: Column, limits: Any) -> list[tuple[str, Check]]:
    role, text = column.role.kind, column.type == pa.string()
    if role == "group_id":
        return [_id_rule(limits)]
    if role == "rank":
        return [("Arize takes ranks from 1 to 100", _beyond(1, 100))]
    if role == "tag" and text:
        most = limits.MAX_TAG_LENGTH
        return [(f"Arize takes tags of up to {most} characters", _longer(most))]
    if role in ("prediction_label", "actual_label") and text:
        return [("a class label must not be empty", _empty)]
    if role == "relevance_label":
        cause = "a relevance label must not be empty"
        if text:
            return [(cause, _empty)]
        return [
            (cause, lambda lists: pc.equal(pc.list_value_length(lists), 0)),
            (cause, _any_item(lambda items: _empty(pc.fill_null(items, "")))),
        ]
    if role == "embedding_vector":
        most = limits.MAX_EMBEDDING_DIMENSIONALITY
        cause = f"Arize takes vectors of 2 to {most} finite numbers"
        # NaN was refused by the row class already.
        return [(cause, _outside(2, most)), (cause, _any_item(pc.is_null))]
    if role == "embedding_text":
        most = limits.MAX_RAW_DATA_CHARACTERS
        cause = f"Arize takes texts of up to {most} characters"
        if text:
            return [(cause, _longer(most))]
        joined = _longer(most)
        return [
            ("Arize takes no null among the tokens of a text", _any_item(pc.is_null)),
            (cause, lambda lists: joined(pc.binary_join(lists, ""))),
        ]
    if column.type == CLASS_SCORES and role in ("prediction_score", "actual_score"):
        return _class_rules(role, limits)
    return []


def _class_rules(role: str, limits: Any) -> list[tuple[str, Check]]:
    classes = limits.MAX_NUMBER_OF_MULTI_CLASS_CLASSES
    longest = limits.MAX_MULTI_CLASS_NAME_LENGTH
    cause, wrong = "Arize takes class scores from 0 to 1", _beyond(0, 1)
    if role == "actual_score":
        cause, wrong = "Arize takes 0 or 1 as actual score of a class", _neither_0_nor_1
    length = _beyond(1, longest)
    return [
        (f"Arize takes 1 to {classes} classes", _outside(1, classes)),
        (
            f"Arize takes class names of 1 to {longest} characters",
            _any_item(lambda items: length(pc.utf8_length(pc.struct_field(items, "class_name")))),
        ),
        (cause, _any_item(lambda items: wrong(pc.struct_field(items, "score")))),
    ]


def _id_rule(limits: Any) -> tuple[str, Check]:
    most = limits.MAX_PREDICTION_ID_LEN

    def broken(ids: pa.Array) -> pa.Array:
        # The SDK counts in NumPy's fixed width, in which null characters at the end are none.
        written = pc.utf8_trim_whitespace(pc.utf8_rtrim(ids, "\0"))
        return pc.or_(_empty(written), _longer(most)(ids))

    return f"Arize takes 1 to {most} characters that are not all blank", broken


def _empty(texts: pa.Array) -> pa.Array:
    return pc.equal(pc.utf8_length(texts), 0)


def _neither_0_nor_1(numbers: pa.Array) -> pa.Array:
    return pc.invert(pc.is_in(numbers, value_set=pa.array([0.0, 1.0])))


def _longer(most: int) -> Check:
    return lambda texts: pc.greater(pc.utf8_length(texts), most)


def _beyond(least: int, most: int) -> Check:
    return lambda numbers: pc.or_(pc.less(numbers, least), pc.greater(numbers, most))


def _outside(least: int, most: int) -> Check:
    return lambda lists: _beyond(least, most)(pc.list_value_length(lists))


def _any_item(check: Check) -> Check:
    """Rows of a list column of which any item fails the check."""

    def broken(lists: pa.Array) -> pa.Array:
        bad = pc.fill_null(check(pc.list_flatten(lists)), False)
        rows = pc.unique(pc.list_parent_indices(lists).filter(bad))
        return pc.is_in(pa.array(range(len(lists)), pa.int64()), value_set=rows.cast(pa.int64()))

    return broken
