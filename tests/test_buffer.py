import math
from collections import UserDict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from extractors import (
    ClassScores,
    Feature,
    ModelVersion,
    NanAsNull,
    PredictionId,
    PredictionLabel,
    PredictionScore,
    Row,
    TableOnly,
    Tag,
    Timestamp,
)
from schemas.buffer import Flushed, RowBuffer, RowShape
from schemas.row import STAMPED

CANARY = "canary-4711"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MICROS = 1_767_355_200_000_000
Envelopes = list[list[dict[str, Any]]]


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Place(Enum):
    HOME = "home"


class Grade(IntEnum):
    ONE = 1


class Card(BaseModel):
    country: str
    places: list[Place] = []
    scores: ClassScores | None = None


def not_thirteen(value: int) -> int:
    if value == 13:
        raise ZeroDivisionError(f"{value}")
    return value


class Wide(Row, default_role=TableOnly):
    id: Annotated[str, PredictionId]
    text: str = Field(max_length=20)
    number: float
    count: Annotated[int, AfterValidator(not_thirteen)]
    flag: bool = False
    one: Literal[1] | None = None
    choice: Annotated[Literal["a", "b"], PredictionLabel] = "a"
    score: Annotated[float | None, PredictionScore, NanAsNull] = Field(default=None, ge=0, le=1)
    tag: Annotated[str | None, Tag] = None
    color: Color = Color.RED
    raw_color: Color = "blue"  # type: ignore[assignment]
    grade: Grade | None = None
    place: Annotated[Place | None, BeforeValidator(lambda v: v.lower() if v == "HOME" else v)] = (
        None
    )
    colors: list[Color] = []
    pair: tuple[float, float] | None = None
    many: tuple[Place, ...] = ()
    matrix: list[list[int]] = []
    at: Timestamp | None = None
    day: date | None = None
    blob: bytes = b""
    scores: ClassScores = {}
    card: Card | None = None
    cards: list[Card] = Field(default=[], max_length=2)

    @field_validator("text")
    @classmethod
    def clean(cls, value: str) -> str:
        if value == "bad":
            raise ValueError(f"{value} is bad")
        return value.strip()


def shape(row: type[Row], model_type: Any = "untyped") -> RowShape:
    return RowShape.of(row, "m", model_type, "v")


def flush(shape: RowShape, envelopes: Envelopes, checked: bool = False) -> Flushed[int]:
    buffer: RowBuffer[int] = RowBuffer(shape, checked)
    for index, rows in enumerate(envelopes):
        buffer.add(rows, f"e-{index}", MICROS + index, MICROS, "", index)
    flushed = buffer.flush()
    assert (buffer.rows, buffer.flush()) == ([], Flushed(None, []))
    return flushed


def refusals(flushed: Flushed[int]) -> dict[int, str]:
    return {index: str(error) for index, error in flushed.refused}


def rows_of(flushed: Flushed[int]) -> list[dict[str, Any]]:
    return [] if flushed.batch is None else flushed.batch.to_pylist()


ZONED = st.datetimes(
    datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.sampled_from([UTC, timezone.max])
)
CARDS = st.one_of(
    st.builds(Card, country=st.text(max_size=2), places=st.lists(st.just(Place.HOME), max_size=2)),
    st.just({"country": "NZ", "places": ["home"], "scores": {"a": 1}}),
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "id": st.text(min_size=1, max_size=3),
    "text": st.text(max_size=20).filter(lambda text: text != "bad"),
    "number": NUMBERS | st.integers(-(2**52), 2**52),
    "count": st.integers(-(2**63), 2**63 - 1).filter(lambda count: count != 13),
    "flag": st.booleans(),
    "one": st.none() | st.just(1),
    "choice": st.sampled_from("ab"),
    "score": st.none() | st.floats(0, 1) | st.just(math.nan) | st.just(1),
    "tag": st.none() | st.text(max_size=3),
    "color": st.sampled_from([*Color, "red"]),
    "raw_color": st.sampled_from([*Color, "blue"]),
    "grade": st.sampled_from([None, 1, Grade.ONE]),
    "place": st.sampled_from([None, "home", "HOME", Place.HOME]),
    "colors": st.lists(st.sampled_from([*Color, "red"]), max_size=3),
    "pair": st.none() | st.tuples(NUMBERS, NUMBERS) | st.just([1, 2]),
    "many": st.lists(st.sampled_from([Place.HOME, "home"]), max_size=2),
    "matrix": st.lists(st.lists(st.integers(-9, 9), max_size=2), max_size=2),
    "at": st.none() | ZONED | st.just("2026-01-31T12:00:00.5+02:00"),
    "day": st.none() | st.dates(),
    "blob": st.binary(max_size=3),
    "scores": st.dictionaries(st.text(max_size=3), NUMBERS | st.just(1), max_size=2),
    "card": st.none() | CARDS,
    "cards": st.lists(CARDS, max_size=2),
}
JUNK = st.sampled_from(
    [
        *(None, True, False, 0, 1, 13, -1, 2**63, -(2**63) - 1, 10**400, 1.0, 1.5),
        *(math.nan, math.inf, "", "a", "bad", "0.5", "\ud800", "x" * 21, b"a", b"\xff"),
        *([], [1], ["a"], [[1]], [[2**64]], [None], ["\udfff"], (), (1.0, 2.0), (1, "2"), {1, 2}),
        *({}, {"a": 1}, {"a": "1"}, {1: 2}, {"\ud800": 0.5}, {"country": 1}, UserDict(a=1)),
        *(Color.RED, Place.HOME, Grade.ONE, Card(country="NZ"), Card(country="\ud800")),
        *(NOON, NOON.replace(tzinfo=None), NOON.date(), timedelta(1), Decimal(1), object()),
        *([Color.RED], ["home"], [{"country": "NZ"}] * 3, "2026-01-31T12:00:00", "home", "red"),
    ]
)


@st.composite
def envelopes_of_rows(draw: st.DrawFn) -> Envelopes:
    """Mostly good rows, so that whole envelopes get through among those that do not."""

    def row(index: int) -> dict[str, Any]:
        required = {"id": st.just(f"{index}"), **{n: GOOD[n] for n in ("text", "number", "count")}}
        given_too = draw(st.sets(st.sampled_from(sorted(GOOD)), max_size=6) | st.just({*GOOD}))
        rest = {name: GOOD[name] for name in given_too if name not in required}
        values = draw(st.fixed_dictionaries({**required, **rest}))
        match draw(st.sampled_from(["good"] * 12 + ["junk", "junk", "junk", "missing", "extra"])):
            case "junk":
                for name in draw(st.sets(st.sampled_from(sorted(GOOD)), min_size=1, max_size=3)):
                    values[name] = draw(JUNK)
            case "missing":
                del values[draw(st.sampled_from(sorted(values)))]
            case "extra":
                values[draw(st.sampled_from(["surprise", "Text", 7]))] = draw(JUNK)
        return values

    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    return [[row(index) for index in range(count)] for count in counts]


@settings(max_examples=120)
@given(envelopes=envelopes_of_rows(), model_type=st.sampled_from(["untyped", "binary"]))
def test_by_column_and_by_row_are_one_verdict_with_equal_rows(
    envelopes: Envelopes, model_type: str
) -> None:
    columnar = shape(Wide, model_type)
    assert not columnar.by_row
    by_column = flush(columnar, envelopes)
    by_row = flush(replace(columnar, by_row=True), envelopes)
    assert refusals(by_column) == refusals(by_row)
    assert [e.cause for _, e in by_column.refused] == [e.cause for _, e in by_row.refused]
    assert by_column.batch == by_row.batch  # the values, whatever their identity

    # What each envelope is told alone is what it is told among others.
    alone = {i: flush(columnar, [rows]) for i, rows in enumerate(envelopes)}
    assert refusals(by_column) == {i: str(f.refused[0][1]) for i, f in alone.items() if f.refused}
    kept = sum(len(rows) for i, rows in enumerate(envelopes) if not alone[i].refused)
    assert len(rows_of(by_column)) == kept


@settings(max_examples=100)
@given(envelopes=envelopes_of_rows())
def test_instances_are_one_verdict_with_dicts(envelopes: Envelopes) -> None:
    columnar = shape(Wide)
    built: Envelopes = []
    accepted: Envelopes = []
    constructor_refused = 0
    for rows in envelopes:
        try:
            built.append([Wide(**row).__dict__ for row in rows])
            accepted.append(rows)
        except (TypeError, ValidationError, ZeroDivisionError):
            constructor_refused += 1
            assert len(flush(columnar, [rows]).refused) == 1
    as_objects, as_dicts = flush(columnar, built, checked=True), flush(columnar, accepted)
    assert refusals(as_objects) == refusals(as_dicts)
    assert as_objects.batch == as_dicts.batch
    assert constructor_refused + len(built) == len(envelopes)


def good(**values: Any) -> dict[str, Any]:
    return {"id": "1", "text": "", "number": 1.0, "count": 1, **values}


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": CANARY}, "column count: Input should be a valid integer"),
        ({"count": 2**63}, "column count: does not fit into int64"),
        ({"tag": "\ud800"}, "column tag: does not fit into string"),
        ({"text": "bad"}, "column text: refused by its validator (value_error)"),
        ({"score": 1.5}, "column score: Input should be less than or equal to 1"),
        ({"colors": ["red", CANARY]}, "column colors[]: Input should be one of 'red', 'blue'"),
        ({"matrix": [[1], [CANARY]]}, "column matrix[][]: Input should be a valid integer"),
        ({"matrix": [[2**64]]}, "column matrix: does not fit into list<item: list<item: int64>>"),
        ({"scores": {CANARY: "x"}}, "column scores.*: Input should be a valid number"),
        ({"card": {"country": 1}}, "column card.country: Input should be a valid string"),
        ({"one": True}, "column one: Input should be of type int"),
        ({"cards": [{"country": "a"}] * 3}, "column cards: List should have at most 2 items"),
        ({CANARY: 1}, "a column that Wide does not have"),
        ({"textt": "1"}, "a column that Wide does not have; is text meant?"),
    ],
)
def test_a_refusal_names_row_column_and_cause(
    by_row: bool, values: dict[str, Any], message: str
) -> None:
    envelopes = [[good()], [good(id="1"), good(id="2", **values), good(id="3")], [good()]]
    flushed = flush(replace(shape(Wide), by_row=by_row), envelopes)
    assert refusals(flushed) == {1: f"row 1: {message}"}
    assert [row["row_id"] for row in rows_of(flushed)] == ["e-0:0", "e-2:0"]
    assert CANARY not in message


@pytest.mark.parametrize("by_row", [False, True])
def test_the_first_bad_row_of_an_envelope_is_the_one_named(by_row: bool) -> None:
    late_column_first_row = [good(id="1", cards=1), good(id="2", text=1), good(id="3")]
    missing = [good(id="1"), {"id": "2"}, good(id="3", text=1)]
    flushed = flush(replace(shape(Wide), by_row=by_row), [late_column_first_row, missing])
    assert refusals(flushed) == {
        0: "row 0: column cards: Input should be a valid list",
        1: "row 1: column text: Field required",
    }
    assert flushed.batch is None


@pytest.mark.parametrize("by_row", [False, True])
def test_a_validator_with_a_bug_refuses_its_row_only(by_row: bool) -> None:
    envelopes = [[good()], [good(id="1"), good(id="2", count=13)], [good(count="x")]]
    flushed = flush(replace(shape(Wide), by_row=by_row), envelopes)
    messages = refusals(flushed)
    assert set(messages) == {1, 2}
    assert messages[1].startswith("row 1: its validator raised ZeroDivisionError at test_buffer.py")
    assert messages[2] == "row 0: column count: Input should be a valid integer"
    assert len(rows_of(flushed)) == 1


class Sums(Row):
    a: int
    b: int

    @model_validator(mode="after")
    def ordered(self) -> "Sums":
        if self.a > self.b:
            raise ValueError(f"{self.a} > {self.b}")
        return self


class Follows(Row):
    a: int
    b: int

    @field_validator("b")
    @classmethod
    def larger(cls, value: int, info: ValidationInfo) -> int:
        assert value > info.data["a"]
        return value + 100


class Completes(Row):
    a: int
    b: int = Field(default_factory=lambda data: data["a"] * 2)


class Turned(Row):
    a: int
    b: int

    @model_validator(mode="before")
    @classmethod
    def swap(cls, value: Any) -> Any:
        return {"a": value["b"], "b": value["a"]}


class Ignoring(Row):
    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)
    a: str


class Stripping(Row):
    model_config = ConfigDict(str_strip_whitespace=True, use_enum_values=True)
    a: str
    place: Place = Place.HOME


@pytest.mark.parametrize(
    ("row", "values", "expected"),
    [
        (Sums, {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        (Sums, {"a": 2, "b": 1}, "row 0: refused by its validator (value_error)"),
        (Sums, {"a": 2**63, "b": 2**64}, "row 0: column a: does not fit into int64"),
        (Follows, {"a": 1, "b": 2}, {"a": 1, "b": 102}),
        (Follows, {"a": 2, "b": 1}, "row 0: column b: refused by its validator (assertion_error)"),
        (Completes, {"a": 3}, {"a": 3, "b": 6}),
        (Turned, {"a": 1, "b": 2}, {"a": 2, "b": 1}),
        (Turned, {"a": 1}, "row 0: its validator raised KeyError 'b' at test_buffer.py"),
        (Ignoring, {"a": " x ", "more": 1}, {"a": "x"}),
        (Stripping, {"a": " x "}, {"a": "x", "place": "home"}),
        (Stripping, {"a": "x", "place": "home"}, {"a": "x", "place": "home"}),
    ],
)
def test_validators_and_settings_of_the_class_count_for_dicts_too(
    row: type[Row], values: dict[str, Any], expected: Any
) -> None:
    flushed = flush(shape(row), [[values]])
    if isinstance(expected, str):
        assert refusals(flushed)[0].startswith(expected)
    else:
        assert [{k: v for k, v in r.items() if k in expected} for r in rows_of(flushed)] == [
            expected
        ]
        assert flush(shape(row), [[row(**values).__dict__]], checked=True).batch == flushed.batch


class Derived(Wide):
    more: int = 0


def test_instances_of_a_derived_class_and_unchecked_ones() -> None:
    fine = Derived(id="1", text="", number=1, count=1, more=7)
    copied = Wide(**good()).model_copy(update={"count": 2, "unknown": CANARY})
    empty = Wide.model_construct(id="1")
    wrong = Wide.model_construct(**good(color="red", scores=CANARY))
    envelopes = [[row.__dict__] for row in (fine, copied, empty, wrong)]
    flushed = flush(shape(Wide), envelopes, checked=True)
    assert refusals(flushed) == {
        2: "row 0: column text: Field required",
        3: "row 0: column scores: does not fit into "
        "list<item: struct<class_name: string, score: double>>",
    }
    assert [row["count"] for row in rows_of(flushed)] == [1, 2]


def test_stamps() -> None:
    class Named(Row):
        prediction_id: Annotated[str, PredictionId]

    buffer: RowBuffer[str] = RowBuffer(RowShape.of(Named, "m-1", "untyped", "abc"), False)
    ids = [{"prediction_id": "p"}, {"prediction_id": "q"}]
    buffer.add(ids, "e-7", MICROS, MICROS + 5, "3", "one")
    buffer.add(ids[:1], "e-8", MICROS + 1, MICROS + 6, "", "two")
    batch = buffer.flush().batch
    assert batch is not None
    stamped = [tuple(row[name] for name in STAMPED) for row in batch.to_pylist()]
    later = NOON + timedelta(microseconds=5)
    assert stamped == [
        ("e-7", "e-7:0", "p", "m-1", "3", NOON, later, "abc"),
        ("e-7", "e-7:1", "q", "m-1", "3", NOON, later, "abc"),
        (
            *("e-8", "e-8:0", "p", "m-1", "unversioned"),
            *(NOON + timedelta(microseconds=1), NOON + timedelta(microseconds=6), "abc"),
        ),
    ]
    assert batch.schema == RowShape.of(Named, "m-1", "untyped", "abc").schema


def test_the_row_id_stands_in_for_a_prediction_id() -> None:
    class Bare(Row):
        a: int

    rows = rows_of(flush(shape(Bare), [[{"a": 1}, {"a": 2}]]))
    assert [row["prediction_id"] for row in rows] == ["e-0:0", "e-0:1"]


def test_the_envelope_s_version_then_the_column_s_then_unversioned() -> None:
    class Versioned(Row):
        build: Annotated[str | None, ModelVersion]

    buffer: RowBuffer[int] = RowBuffer(shape(Versioned), False)
    for version, build in [("7", "b"), ("", "b"), ("", ""), ("", None)]:
        buffer.add([{"build": build}], "e", 0, 0, version, 0)
    versions = [row["model_version"] for row in rows_of(buffer.flush())]
    assert versions == ["7", "b", "unversioned", "unversioned"]


class Labelled(Row):
    id: Annotated[str, PredictionId]
    label: Annotated[str | None, PredictionLabel] = None
    score: Annotated[float | None, PredictionScore] = None
    amount: Annotated[float, Feature] = 0


class OnlyLabelled(Row):
    id: Annotated[str, PredictionId]
    label: Annotated[str | None, PredictionLabel] = None


@pytest.mark.parametrize("model_type", ["binary", "untyped"])
def test_prediction_ids_are_unique_within_an_envelope(model_type: str) -> None:
    def rows(*ids: str) -> list[dict[str, Any]]:
        return [{"id": id_, "label": "a"} for id_ in ids]

    envelopes = [rows("a", "b"), rows("a", "b", "a"), rows("a"), rows("c", "c")]
    flushed = flush(shape(Labelled, model_type), envelopes)
    twice = "two rows of the envelope have the same prediction id"
    assert refusals(flushed) == {1: twice, 3: twice}
    assert [row["row_id"] for row in rows_of(flushed)] == ["e-0:0", "e-0:1", "e-2:0"]


def test_a_row_needs_an_outcome_where_arize_does() -> None:
    envelopes = [[{"id": "1"}], [{"id": "1", "score": 0.5}], [{"id": "1", "label": "a"}]]
    flushed = flush(shape(Labelled, "binary"), envelopes)
    assert refusals(flushed) == {0: "row 0: columns label, score must not all be null"}
    assert flush(shape(Labelled), envelopes).refused == []
    alone = flush(shape(OnlyLabelled, "binary"), [[{"id": "1"}], [{"id": "1", "label": "a"}]])
    assert refusals(alone) == {0: "row 0: column label must not be null"}


@pytest.mark.parametrize("bad", range(0, 3000, 750))
def test_positions_are_right_in_large_buffers(bad: int) -> None:
    envelopes = [[good(id=str(row)) for row in range(1 + index % 4)] for index in range(1500)]
    flat = [row for rows in envelopes for row in rows]
    flat[bad]["number"] = CANARY
    owner = next(i for i, rows in enumerate(envelopes) if flat[bad] in rows)
    place = envelopes[owner].index(flat[bad])
    flushed = flush(shape(Wide), envelopes)
    assert refusals(flushed) == {
        owner: f"row {place}: column number: Input should be a valid number"
    }
    assert len(rows_of(flushed)) == len(flat) - len(envelopes[owner])
