import warnings
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
)

import extractors
from extractors import (
    ActualLabel,
    ClassScores,
    EmbeddingVector,
    Feature,
    NanAsNull,
    PredictionId,
    PredictionLabel,
    PredictionScore,
    Row,
    ShapValue,
    TableOnly,
    Tag,
    Timestamp,
)
from schemas import InvalidExtractorError
from schemas.failure import describe_refusal
from schemas.roles import MANY, Role
from schemas.row import RESERVED

CANARY = "canary-4711"


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Grade(IntEnum):
    ONE = 1
    TWO = 2


class Place(Enum):
    HOME = "home"


class Card(BaseModel):
    country: str


class Wide(Row):
    text: str = ""
    number: float = 0
    count: int = 0
    flag: bool = False
    one: Literal[1] = 1
    yes: Literal[True] = True
    choice: Literal["a", "b"] | None = None
    color: Color = Color.RED
    grade: Grade | None = None
    place: Place | None = None
    colors: list[Color] = []
    ones: list[Literal[1]] = []
    pair: tuple[float, float] = (0, 0)
    many: tuple[int, ...] = ()
    pairs: list[tuple[int, int]] = []
    at: Timestamp | None = None
    day: date | None = None
    scores: ClassScores = {}
    card: Card | None = None
    clean: Annotated[float | None, NanAsNull] = None
    score: float | None = Field(default=None, ge=0, le=1)


def refusal(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Wide(**values)
    return describe_refusal(caught.value, Wide)


TAKEN: list[tuple[str, Any, Any]] = [
    ("number", 1, 1.0),
    ("color", "blue", Color.BLUE),
    ("color", Color.BLUE, Color.BLUE),
    ("grade", 2, Grade.TWO),
    ("place", "home", Place.HOME),
    ("colors", ["red", Color.BLUE], [Color.RED, Color.BLUE]),
    ("pair", [1, 2.5], (1.0, 2.5)),
    ("many", [1, 2, 3], (1, 2, 3)),
    ("pairs", [[1, 2]], [(1, 2)]),
    ("card", {"country": "NZ"}, Card(country="NZ")),
    ("clean", float("nan"), None),
    ("clean", 0.0, 0.0),
    ("day", date(2026, 1, 2), date(2026, 1, 2)),
    ("choice", None, None),
    ("score", 1, 1.0),
]


@pytest.mark.parametrize(("column", "value", "expected"), TAKEN)
def test_what_is_natural_in_json_is_taken(column: str, value: Any, expected: Any) -> None:
    found = getattr(Wide(**{column: value}), column)
    assert (found, type(found)) == (expected, type(expected))


REFUSED: list[tuple[str, Any]] = [
    ("text", 1),
    ("text", b"x"),
    ("text", None),
    ("number", "0.5"),
    ("number", True),
    ("number", float("nan")),
    ("number", float("inf")),
    ("count", 1.0),
    ("count", "1"),
    ("count", True),
    ("flag", 1),
    ("flag", "true"),
    ("one", True),
    ("one", 1.0),
    ("one", 2),
    ("one", "1"),
    ("yes", 1),
    ("choice", "c"),
    ("color", "green"),
    ("color", None),
    ("color", ["red"]),
    ("grade", True),
    ("grade", 1.0),
    ("grade", "1"),
    ("grade", 3),
    ("place", Color.RED),
    ("colors", ["red", "green"]),
    ("colors", "red"),
    ("ones", [True]),
    ("pair", [1]),
    ("pair", "12"),
    ("many", ["1"]),
    ("pairs", [[1, 2, 3]]),
    ("day", "2026-01-02"),
    ("day", 1),
    ("scores", {"a": "0.5"}),
    ("scores", {"a": float("nan")}),
    ("scores", [("a", 0.5)]),
    ("card", {}),
    ("clean", float("inf")),
    ("clean", "nan"),
    ("score", 1.01),
    ("surprise", 1),
]


@pytest.mark.parametrize(("column", "value"), REFUSED)
def test_what_only_looks_like_the_type_is_refused_by_name(column: str, value: Any) -> None:
    text = refusal(**{column: value})
    assert text.startswith(f"column {column}") or text == "a column that Wide does not have"


@pytest.mark.parametrize("column", [name for name in Wide.model_fields if name != "text"])
def test_no_refusal_quotes_the_value(column: str) -> None:
    for value in (CANARY, [CANARY], {CANARY: CANARY}):
        assert CANARY not in refusal(**{column: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.25+00:00", datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)),
        (
            "2026-01-31T12:00:00-05:30",
            datetime(2026, 1, 31, 12, tzinfo=timezone(-timedelta(hours=5, minutes=30))),
        ),
    ],
)
def test_times_are_rfc_3339(text: str, expected: datetime) -> None:
    found = Wide(at=text).at  # type: ignore[arg-type]
    assert found == expected
    assert Wide(at=expected).at == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2026-01-31T12:00:00", "RFC 3339 text with offset, 2026-01-31T12:00:00Z"),
        ("2026-01-31", "RFC 3339"),
        ("20260131T120000Z", "RFC 3339"),
        (CANARY, "RFC 3339"),
        ("2026-02-30T12:00:00Z", "a time that exists"),
        ("0001-01-01T00:00:00+14:00", "a time that exists"),
        ("9999-12-31T23:59:59-00:01", "a time that exists"),
        (datetime(2026, 1, 31), "timezone"),
        (1_700_000_000, "datetime"),
    ],
)
def test_other_times_are_refused_with_the_form(value: object, words: str) -> None:
    text = refusal(at=value)
    assert words in text
    assert CANARY not in text


def test_refusals_say_what_there_is_to_choose_from() -> None:
    assert "Input should be one of 'red', 'blue'" in refusal(color="green")
    assert "Input should be of type int" in refusal(one=True)
    assert "Input should be 'a' or 'b'" in refusal(choice="c")


def test_a_column_s_own_before_validators_see_the_value_first() -> None:
    class Normalised(Row):
        color: Annotated[Color, BeforeValidator(str.lower)]
        one: Annotated[Literal[1, 2], BeforeValidator(int)]
        shout: Annotated[Color, AfterValidator(lambda color: Color.BLUE)]

    row = Normalised(color="RED", one="2", shout="red")  # type: ignore[arg-type]
    assert row == Normalised(color=Color.RED, one=2, shout=Color.RED)
    assert row.shout is Color.BLUE


def test_defaults_are_held_to_the_type_too() -> None:
    class Lazy(Row):
        at: Timestamp = "2026-01-01T00:00:00Z"  # type: ignore[assignment]
        color: Color = "red"  # type: ignore[assignment]
        marks: list[str] = []

    assert Lazy().at == datetime(2026, 1, 1, tzinfo=UTC)
    assert Lazy().color is Color.RED
    assert Lazy().marks is not Lazy().marks


def test_rows_cannot_be_changed() -> None:
    row = Wide(text="a")
    with pytest.raises(ValidationError, match="frozen"):
        row.text = "b"  # type: ignore[misc]


def roles(row: type[Row]) -> dict[str, str]:
    return {name: str(role) for name, role in row.__roles__.items()}


def test_unmarked_columns_have_the_default_role() -> None:
    class Plain(Row):
        a: int
        b: Annotated[int, Feature]

    class Featured(Row, default_role=Feature):
        a: int
        b: Annotated[int | None, Field(ge=0), Tag] = None
        c: Annotated[float, ShapValue("a")]

    assert roles(Plain) == {"a": "TableOnly", "b": "Feature"}
    assert roles(Featured) == {"a": "Feature", "b": "Tag", "c": 'ShapValue("a")'}


def test_inherited_columns_keep_their_roles() -> None:
    class Base(Row):
        id: Annotated[str, PredictionId]
        note: str

    class Derived(Base, default_role=Feature):
        amount: float
        id: str

    class Further(Derived):
        more: float
        note: Annotated[str, Tag]

    assert roles(Derived) == {"id": "PredictionId", "note": "TableOnly", "amount": "Feature"}
    assert roles(Further) == {**roles(Derived), "note": "Tag", "more": "Feature"}
    assert roles(Base) == {"id": "PredictionId", "note": "TableOnly"}


def test_columns_of_two_bases_keep_each_base_s_roles() -> None:
    class Featured(Row, default_role=Feature):
        a: int

    class Noted(Row):
        b: int

    class Both(Featured, Noted):
        c: int

    class Turned(Noted, Featured, default_role=Tag):
        c: int

    assert roles(Both) == {"a": "Feature", "b": "TableOnly", "c": "Feature"}
    assert roles(Turned) == {"a": "Feature", "b": "TableOnly", "c": "Tag"}


@pytest.mark.parametrize(
    "name", ["roles", "default_role", "json", "schema", "copy", "dict", "fields", "metadata"]
)
def test_columns_may_be_called_what_they_like(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic minds that `json` is a method, too
        row = type("Named", (Row,), {"__annotations__": {name: str}})
    assert row.model_fields[name].is_required()
    assert row(**{name: "x"}).__dict__ == {name: "x"}
    assert roles(row) == {name: "TableOnly"}


def define(annotation: Any, name: str = "amount", **options: Any) -> type[Row]:
    return type(Row)("Broken", (Row,), {"__annotations__": {name: annotation}}, **options)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (
            Annotated[float, Feature, Tag],
            "Broken.amount has 2 roles (Feature, Tag); give it one",
        ),
        (
            Annotated[Annotated[float, PredictionScore], ShapValue("a")],
            'Broken.amount has 2 roles (PredictionScore, ShapValue("a")); give it one',
        ),
        (
            Annotated[list[float], EmbeddingVector],
            "Broken.amount: EmbeddingVector needs the name it belongs to, "
            'e.g. EmbeddingVector("review")',
        ),
        (
            Annotated[float, ShapValue("")],
            'Broken.amount: ShapValue needs the name it belongs to, e.g. ShapValue("review")',
        ),
        (
            Annotated[float, PredictionLabel("amount")],
            'Broken.amount: PredictionLabel("amount") takes no name; write PredictionLabel',
        ),
        (
            Annotated[float, PredictionScore] | None,
            "Broken.amount: its role is hidden inside of its type; write "
            "Annotated[…, PredictionScore] around all of it, with `| None` inside",
        ),
        (
            Annotated[float, PredictionLabel()],
            "Broken.amount: PredictionLabel takes no name; write PredictionLabel",
        ),
        (
            Annotated[PredictionLabel, float],
            "Broken.amount: the type comes first; write Annotated[…, PredictionLabel]",
        ),
        (
            PredictionScore,
            "Broken.amount: PredictionScore is a role and no type; "
            "write Annotated[str, PredictionScore], or another type",
        ),
        (
            list[Annotated[str, Feature]],
            "Broken.amount: its role is hidden inside of its type; write "
            "Annotated[…, Feature] around all of it, with `| None` inside",
        ),
    ],
)
def test_a_role_that_cannot_be_is_refused_with_the_remedy(annotation: Any, message: str) -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        define(annotation)
    assert str(caught.value) == message


def test_a_name_that_pydantic_takes_for_no_column_is_refused() -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        define(Annotated[float, Feature], "_amount")
    assert str(caught.value) == ("Broken._amount: a column's name cannot begin with _; rename it")

    class Private(Row):
        amount: float
        _seen: int = PrivateAttr(0)

    assert list(Private.model_fields) == ["amount"]


@pytest.mark.parametrize("name", RESERVED)
def test_stamped_names_are_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        define(Annotated[str, Feature], name)
    remedy = "give it the role PredictionId" if name == "prediction_id" else "rename it"
    assert str(caught.value) == (
        f"Broken.{name}: Weighbridge stamps a column of this name itself; {remedy}"
    )


def test_a_column_prediction_id_may_be_the_prediction_id() -> None:
    assert roles(define(Annotated[str, PredictionId], "prediction_id")) == {
        "prediction_id": "PredictionId"
    }


@pytest.mark.parametrize("role", [PredictionScore, ShapValue("a"), "feature"])
def test_a_default_role_is_one_that_many_columns_may_have(role: Any) -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        define(float, default_role=role)
    assert str(caught.value) == "Broken: default_role is Feature, Tag or TableOnly"


def test_every_role_of_the_contract_is_exported_and_prints_as_it_is_written() -> None:
    exported = {name: item for name, item in vars(extractors).items() if isinstance(item, Role)}
    assert {name: str(role) for name, role in exported.items()} == {name: name for name in exported}
    assert len(exported) == 18
    assert {role.kind for role in (Feature, Tag, TableOnly)} == MANY
    assert str(ActualLabel) == "ActualLabel"


def test_descriptions_come_from_the_text_below_a_column() -> None:
    class Described(Row):
        amount: float
        """major units"""

    assert Described.model_fields["amount"].description == "major units"


def test_literals_of_one_type_only_are_told_apart_from_their_equals() -> None:
    class Flags(Row):
        flag: Literal[0, 1] | None = None
        text: Literal["1", "2"] | None = None

    assert Flags(flag=1, text="1").flag == 1
    for value in (True, 1.0, "1"):
        with pytest.raises(ValidationError, match="flag"):
            Flags(flag=value)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="text"):
        Flags(text=1)  # type: ignore[arg-type]
    assert get_args(Flags.model_fields["flag"].annotation)[0] == Literal[0, 1]
