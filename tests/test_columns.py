import functools
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import pyarrow as pa
import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    computed_field,
    field_validator,
    model_validator,
)

from extractors import ClassScores, Feature, NanAsNull, PredictionId, Row, TableOnly, Timestamp
from schemas import InvalidExtractorError
from schemas.columns import columns_of, needs_row_path, table_schema
from schemas.row import STAMPED


class Color(StrEnum):
    RED = "red"


class Payment(Row, default_role=Feature):
    payment_id: Annotated[str, PredictionId]
    amount: float = Field(ge=0)
    """major units"""
    distance: Annotated[float | None, NanAsNull] = None
    marks: Annotated[list[str], TableOnly] = []
    color: Color = Color.RED


def test_columns_follow_the_class() -> None:
    columns = columns_of(Payment)
    assert [(c.name, str(c.role), str(c.type), c.nullable, c.required) for c in columns] == [
        ("payment_id", "PredictionId", "string", False, True),
        ("amount", "Feature", "double", False, True),
        ("distance", "Feature", "double", True, False),
        ("marks", "TableOnly", "list<item: string>", False, False),
        ("color", "Feature", "string", False, False),
    ]
    assert [c.description for c in columns] == ["", "major units", "", "", ""]
    assert [c.make_default() for c in columns if not c.required] == [None, [], Color.RED]
    assert columns[3].make_default() is not columns[3].make_default()


def test_a_column_is_checked_as_strictly_as_a_row() -> None:
    amount = columns_of(Payment)[1]
    assert amount.validate([0, 1.5]) == [0.0, 1.5]
    with pytest.raises(ValidationError) as caught:
        amount.validate([1.0, -1.0, "1", float("nan"), True])
    assert [error["loc"] for error in caught.value.errors()] == [(1,), (2,), (3,), (4,)]


def test_the_table_has_the_stamped_columns_first_and_all_may_be_null() -> None:
    schema = table_schema(columns_of(Payment))
    assert schema.names == [*STAMPED, "payment_id", "amount", "distance", "marks", "color"]
    assert all(field.nullable for field in schema)
    assert schema.field("amount").metadata == {b"doc": b"major units"}
    assert schema.field("distance").metadata is None


def test_a_column_prediction_id_is_the_stamped_one() -> None:
    class Row1(Row):
        prediction_id: Annotated[str, PredictionId]
        amount: float

    assert table_schema(columns_of(Row1)).names == [*STAMPED, "amount"]


class Nothing(Row):
    pass


class Aliased(Row):
    amount: float = Field(alias="Amount")


class Generated(Row):
    model_config = ConfigDict(alias_generator=str.upper)
    amount: float


class Alternative(Row):
    amount: float = Field(validation_alias="sum")


class SpelledTwice(Row):
    amount: float
    Amount: float


class Untyped(Row):
    amount: Any


class WrongDefault(Row):
    amount: float = None  # type: ignore[assignment]


class WrongFactory(Row):
    amount: float = Field(default_factory=lambda: "x")  # type: ignore[arg-type,return-value]


class RaisingFactory(Row):
    amount: float = Field(default_factory=lambda: 1 / 0)


class RoleAsDefault(Row):
    amount: float = Feature  # type: ignore[assignment]


class NestedAliased(BaseModel):
    amount: complex


class Nested(Row):
    card: NestedAliased


class Unfinished(Row):
    amount: "Later"  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            Unfinished,
            "Unfinished uses a name that is defined below it, or nowhere; define it above",
        ),
        (Nothing, "Nothing has no columns"),
        (
            Aliased,
            "Aliased.amount has an alias; a column is called as its field is: rename the field",
        ),
        (
            Generated,
            "Generated.amount has an alias; a column is called as its field is: rename the field",
        ),
        (
            Alternative,
            "Alternative.amount has an alias; a column is called as its field is: rename the field",
        ),
        (
            SpelledTwice,
            "SpelledTwice.Amount differs from amount in capital letters only, which engines that "
            "read tables do not tell apart; rename one of them",
        ),
        (Untyped, "Untyped.amount: no table column for Any; use "),
        (Nested, "Nested.card.amount: no table column for complex; use "),
        *(
            (
                row,
                f"{row.__name__}.amount: its default is not of its own type; "
                "for nulls write `… | None = None`",
            )
            for row in (WrongDefault, WrongFactory, RaisingFactory, RoleAsDefault)
        ),
    ],
)
def test_what_no_table_can_hold_is_refused_with_the_remedy(row: type[Row], message: str) -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        columns_of(row)
    assert str(caught.value).startswith(message)


def test_a_type_that_pydantic_does_not_know_is_refused_with_those_there_are() -> None:
    class Foreign(Row):
        frame: pa.Table

    with pytest.raises(InvalidExtractorError, match="Foreign.frame: no table column for .*Table"):
        columns_of(Foreign)


def plus(value: int, info: ValidationInfo) -> int:
    return value + int(info.data["a"])


class Plain(Row):
    a: int
    b: Annotated[float | None, NanAsNull] = None
    at: Timestamp | None = None
    color: Color = Color.RED
    one: Literal[1] = 1
    scores: ClassScores = {}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.a * 2

    @field_validator("a")
    @classmethod
    def positive(cls, value: int) -> int:
        assert value > 0
        return value

    @field_validator("b", mode="wrap")
    @classmethod
    def wrapped(cls, value: Any, handler: Any) -> Any:
        return handler(value)

    @field_validator("scores", mode="before")
    @staticmethod
    def static(value: Any) -> Any:
        return value


class After(Row):
    a: int

    @model_validator(mode="after")
    def check(self) -> "After":
        return self


class Before(Row):
    a: int

    @model_validator(mode="before")
    @classmethod
    def check(cls, value: Any) -> Any:
        return value


class WithInfo(Row):
    a: int
    b: int

    @field_validator("b")
    @classmethod
    def check(cls, value: int, info: ValidationInfo) -> int:
        return value + int(info.data["a"])


class WithStaticInfo(Row):
    a: int
    b: int

    @field_validator("b")
    @staticmethod
    def check(value: int, info: ValidationInfo) -> int:
        return value + int(info.data["a"])


class AnnotatedInfo(Row):
    a: int
    b: Annotated[int, AfterValidator(plus)]


class AnnotatedBefore(Row):
    a: int
    b: Annotated[list[Annotated[int, BeforeValidator(plus)]] | None, Field(max_length=3)] = None


class AnnotatedWrap(Row):
    a: int
    b: Annotated[int, WrapValidator(lambda value, handler, info: handler(value) + info.data["a"])]


class AnnotatedPartial(Row):
    a: int
    b: Annotated[int, AfterValidator(functools.partial(plus))]


class FromOthers(Row):
    a: int
    b: int = Field(default_factory=lambda data: data["a"] + 1)


class Initialised(Row):
    a: int

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"a": 1, **values})


class PostInit(Row):
    a: int

    def model_post_init(self, context: Any, /) -> None:
        assert self.a


class Lenient(Row):
    model_config = ConfigDict(extra="ignore")
    a: int


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (Plain, False),
        (Payment, False),
        *(
            (row, True)
            for row in (
                After,
                Before,
                WithInfo,
                WithStaticInfo,
                AnnotatedInfo,
                AnnotatedBefore,
                AnnotatedWrap,
                AnnotatedPartial,
                FromOthers,
                Initialised,
                PostInit,
                Lenient,
            )
        ),
    ],
)
def test_what_looks_at_more_than_a_column_needs_the_row(row: type[Row], expected: bool) -> None:
    assert needs_row_path(row) is expected
    assert [column.name for column in columns_of(row)] == list(row.model_fields)


def test_validators_of_a_class_apply_by_column() -> None:
    columns = {column.name: column for column in columns_of(Plain)}
    assert columns["at"].validate(["2026-01-01T00:00:00Z", None]) == [
        datetime(2026, 1, 1, tzinfo=UTC),
        None,
    ]
    assert columns["b"].validate([float("nan"), 2]) == [None, 2.0]
    with pytest.raises(ValidationError) as caught:
        columns["a"].validate([1, 0, -1, "x"])
    assert [error["loc"] for error in caught.value.errors()] == [(1,), (2,), (3,)]
