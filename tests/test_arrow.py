from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, List, Literal, Optional  # noqa: UP035
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import (
    AwareDatetime,
    BaseModel,
    Field,
    NaiveDatetime,
    NonNegativeInt,
    PastDate,
    PastDatetime,
    PositiveInt,
    condecimal,
    confloat,
    conint,
)

from extractors import ClassScores, NanAsNull, Row, Timestamp
from schemas import InvalidExtractorError
from schemas.arrow import CLASS_SCORES, STAMPED_FIELDS, TIME, arrow_type, converter, to_array


class Color(StrEnum):
    RED = "red"


class Plain(Enum):
    HOME = "home"


class Grade(IntEnum):
    ONE = 1


class Mixed(Enum):
    ONE = 1
    TWO = "two"


class Card(BaseModel):
    country: str
    colors: list[Plain] = []
    scores: ClassScores | None = None


class Wallet(BaseModel):
    cards: list[Card]
    main: Card | None = None
    at: Timestamp | None = None


class Endless(BaseModel):
    children: list["Endless"] = []


class Empty(BaseModel):
    pass


CARD = pa.struct(
    [("country", pa.string()), ("colors", pa.list_(pa.string())), ("scores", CLASS_SCORES)]
)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, pa.string()),
        (bool, pa.bool_()),
        (int, pa.int64()),
        (float, pa.float64()),
        (bytes, pa.binary()),
        (date, pa.date32()),
        (AwareDatetime, TIME),
        (Timestamp, TIME),
        (Literal["a", "b"], pa.string()),
        (Literal[1, 2], pa.int64()),
        (Literal[True], pa.bool_()),
        (Color, pa.string()),
        (Plain, pa.string()),
        (Grade, pa.int64()),
        (ClassScores, CLASS_SCORES),
        (list[str], pa.list_(pa.string())),
        (list[list[int]], pa.list_(pa.list_(pa.int64()))),
        (list[Color], pa.list_(pa.string())),
        (list[ClassScores], pa.list_(CLASS_SCORES)),
        (tuple[float, float], pa.list_(pa.float64())),
        (tuple[int, ...], pa.list_(pa.int64())),
        (Card, CARD),
        (
            Wallet,
            pa.struct([("cards", pa.list_(CARD)), ("main", CARD), ("at", TIME)]),
        ),
        (Annotated[Annotated[int, Field(ge=0)], "x"], pa.int64()),
    ],
)
def test_every_type_has_one_arrow_type(annotation: Any, expected: pa.DataType) -> None:
    assert arrow_type(annotation, "c") == (expected, False)
    assert arrow_type(annotation | None, "c") == (expected, True)
    assert arrow_type(Annotated[annotation | None, NanAsNull], "c") == (expected, True)
    assert arrow_type(list[Annotated[annotation | None, NanAsNull]], "c") == (
        pa.list_(expected),
        False,
    )


def test_optional_means_nullable() -> None:
    assert arrow_type(Optional[int], "c") == (pa.int64(), True)  # noqa: UP045


KNOWN = (
    "str, int, float, bool, bytes, date, Timestamp, Literal, str-Enum, ClassScores, a list of "
    "these, or a pydantic model (`| None` for nulls)"
)
ONE_TYPE = "all its values must be str, or all int (`| None` outside for nulls)"


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Any, f"R.c: no table column for Any; use {KNOWN}"),
        (dict[str, int], f"R.c: no table column for dict[str, int]; use {KNOWN}"),
        (set[str], f"R.c: no table column for set[str]; use {KNOWN}"),
        (list, f"R.c: no table column for list; use {KNOWN}"),
        (List, f"R.c: no table column for typing.List; use {KNOWN}"),  # noqa: UP006
        (tuple[()], f"R.c: no table column for tuple[()]; use {KNOWN}"),
        (tuple[int, str], f"R.c: no table column for tuple[int, str]; use {KNOWN}"),
        (int | str, f"R.c: no table column for int | str; use {KNOWN}"),
        (complex, f"R.c: no table column for complex; use {KNOWN}"),
        (np.complex128, f"R.c: no table column for numpy.complex128; use {KNOWN}"),
        (Literal["a", 1], f"R.c: {ONE_TYPE}"),
        (Literal["a", None], f"R.c: {ONE_TYPE}"),
        (Mixed, f"R.c: {ONE_TYPE}"),
        (Endless, "R.c.children: Endless holds itself"),
        (list[Empty], "R.c: Empty has no fields"),
    ],
)
def test_other_types_are_refused_with_those_there_are(annotation: Any, message: str) -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        arrow_type(annotation, "R.c")
    assert str(caught.value) == message


DECIMAL = "Decimal; use float, or str to keep every digit"
TIMES = "use Timestamp, which has an offset and microseconds: digits below are cut off"
UNSIGNED = "use int, which goes up to 2**63 - 1, or str for larger numbers"


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Decimal, DECIMAL),
        (condecimal(max_digits=9, decimal_places=2), DECIMAL),
        (list[Decimal], DECIMAL),
        (Decimal | None, DECIMAL),
        (datetime, f"datetime; {TIMES}"),
        (NaiveDatetime, f"NaiveDatetime; {TIMES}"),
        (PastDatetime, f"PastDatetime; {TIMES}"),
        (pd.Timestamp, f"pandas.Timestamp; {TIMES}"),
        (np.datetime64, f"numpy.datetime64; {TIMES}"),
        (PastDate, "PastDate; use date"),
        (timedelta, "timedelta; use float, in seconds"),
        (np.timedelta64, "numpy.timedelta64; use float, in seconds"),
        (time, "time; use str"),
        (UUID, "UUID; use str"),
        (np.uint8, f"numpy.uint8; {UNSIGNED}"),
        (np.uint32, f"numpy.uint32; {UNSIGNED}"),
        (np.uint64, f"numpy.uint64; {UNSIGNED}"),
        (list[np.uint64], f"numpy.uint64; {UNSIGNED}"),
        (np.int32, "numpy.int32; use int"),
        (np.int64, "numpy.int64; use int"),
        (np.float16, "numpy.float16; use float"),
        (np.float64, "numpy.float64; use float"),
        (np.bool_, "numpy.bool; use bool"),
        (np.str_, "numpy.str_; use str"),
        (np.ndarray, "numpy.ndarray; use list[float], or a list of another type"),
    ],
)
def test_for_a_type_that_comes_close_to_one_that_one_is_named(
    annotation: Any, message: str
) -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        arrow_type(annotation, "R.c")
    assert str(caught.value) == f"R.c: no table column for {message}"


@pytest.mark.parametrize(
    ("annotation", "kind", "good", "bad"),
    [
        (conint(ge=0), pa.int64(), [0, 2**63 - 1], [2**63, 2**64 - 1]),
        (NonNegativeInt, pa.int64(), [0, 2**32], [2**63]),
        (PositiveInt, pa.int64(), [1], [2**63]),
        (confloat(ge=0), pa.float64(), [0.5, 1e300], []),
    ],
)
def test_unsigned_numbers_have_a_column_with_sign(
    annotation: Any, kind: pa.DataType, good: list[Any], bad: list[Any]
) -> None:
    assert arrow_type(annotation, "c") == (kind, False)
    found, positions = to_array([*good, *bad], kind)
    assert found.to_pylist() == [*good, *(None for _ in bad)]
    assert positions == list(range(len(good), len(good) + len(bad)))


def test_nanoseconds_are_cut_to_microseconds() -> None:
    class Seen(Row):
        at: Timestamp

    seen = Seen(at="2026-01-02T12:00:00.123456789Z")
    assert array(Timestamp, [seen.at]) == [datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)]


def array(annotation: Any, values: list[Any]) -> Any:
    found, bad = to_array(values, arrow_type(annotation, "c")[0], converter(annotation))
    assert bad == []
    return found.to_pylist()


def test_values_become_what_the_table_holds() -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=timezone(timedelta(hours=2)))
    card = Card(country="NZ", colors=[Plain.HOME], scores={"a": 0.5})
    stored = {
        "country": "NZ",
        "colors": ["home"],
        "scores": [{"class_name": "a", "score": 0.5}],
    }
    assert array(Plain | None, [Plain.HOME, None]) == ["home", None]
    assert array(list[Plain], [[Plain.HOME], []]) == [["home"], []]
    assert array(tuple[Plain, ...] | None, [(Plain.HOME,), None]) == [["home"], None]
    assert array(list[Plain | None], [[None, Plain.HOME]]) == [[None, "home"]]
    assert array(ClassScores | None, [{"a": 1.0, "b": 0.0}, None, {}]) == [
        [{"class_name": "a", "score": 1.0}, {"class_name": "b", "score": 0.0}],
        None,
        [],
    ]
    assert array(Annotated[Card | None, "x"], [card, None]) == [stored, None]
    assert array(list[list[Card]], [[[card]]]) == [[[stored]]]
    assert array(Wallet, [Wallet(cards=[card], main=None, at=noon)]) == [
        {"cards": [stored], "main": None, "at": datetime(2026, 1, 2, 10, tzinfo=UTC)}
    ]
    assert array(Timestamp, [noon]) == [datetime(2026, 1, 2, 10, tzinfo=UTC)]


@pytest.mark.parametrize("annotation", [str, int, float, list[str], ClassScores | str, tuple[int]])
def test_most_types_need_no_conversion(annotation: Any) -> None:
    assert converter(annotation) is None


@pytest.mark.parametrize(
    ("annotation", "values", "bad"),
    [
        (int, [1, 2**63, 2**63 - 1, -(2**63) - 1, 10**400], [1, 3, 4]),
        (str, ["a", "\ud800", "b"], [1]),
        (list[str], [["a"], ["\udfff"]], [1]),
        (list[list[int]], [[[2**64]], [[1]]], [0]),
        (Card, [Card(country="\ud800"), Card(country="NZ")], [0]),
        (ClassScores, [{"\ud800": 0.5}, {"a": 0.5}], [0]),
        # Rows by model_construct hold anything.
        (int, ["x", 1, None], [0]),
        (Card, ["x", Card(country="NZ"), {"country": "NZ"}], [0, 2]),
        (Card, [Card.model_construct(), Card(country="NZ")], [0]),
        (ClassScores, ["x", {"a": 1.0}, {"a": "b"}], [0, 2]),
        (list[Plain], [3, [Plain.HOME]], [0]),
    ],
)
def test_what_no_column_can_hold_is_named_by_position(
    annotation: Any, values: list[Any], bad: list[int]
) -> None:
    kind, convert = arrow_type(annotation, "c")[0], converter(annotation)
    found, positions = to_array(values, kind, convert)
    assert positions == bad
    assert found.type == kind
    good = [value for i, value in enumerate(values) if i not in bad]
    kept = [item for i, item in enumerate(found.to_pylist()) if i not in bad]
    assert kept == to_array(good, kind, convert)[0].to_pylist()
    assert all(found[i].as_py() is None for i in bad)


def test_stamped_columns_are_text_and_times_in_utc() -> None:
    assert {field.name: str(field.type) for field in STAMPED_FIELDS} == {
        "envelope_id": "string",
        "row_id": "string",
        "prediction_id": "string",
        "model_id": "string",
        "model_version": "string",
        "event_time": "timestamp[us, tz=UTC]",
        "ingest_time": "timestamp[us, tz=UTC]",
        "extractor_version": "string",
    }
