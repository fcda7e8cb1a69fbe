import json
import pickle
from enum import StrEnum
from typing import Annotated, Any

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

# Every text that pydantic has, with the names of its parts; it is exported there only.
from pydantic_core._pydantic_core import list_all_errors

from extractors import ClassScores, Row, Timestamp
from schemas import DecodeError, ExtractError, Failure, RouteError, RowValidationError, Stage
from schemas.failure import describe_exception, describe_refusal, safe_message

CANARY = "canary-4711"


class Card(BaseModel):
    country: str
    digits: list[int] = []
    id: str = ""


class Color(StrEnum):
    RED = "red"


def scream(value: Any) -> Any:
    raise ValueError(f"cannot take {value}")


def stumble(value: Any) -> Any:
    return value + {}


def own_rule(value: Any) -> Any:
    raise PydanticCustomError("my_rule", "not {value}", {"value": value})


def disguise(value: Any) -> Any:
    raise PydanticCustomError("value_error", "not {gt}", {"gt": value})


class Wide(Row):
    count: int = 0
    marks: list[int] = Field(default=[], max_length=2)
    scores: ClassScores = {}
    card: Card | None = None
    color: Color = Color.RED
    at: Timestamp | None = None
    screams: Annotated[str, AfterValidator(scream)] | None = None
    stumbles: Annotated[str, AfterValidator(stumble)] | None = None
    own: Annotated[str, AfterValidator(own_rule)] | None = None
    disguised: Annotated[str, AfterValidator(disguise)] | None = None

    @model_validator(mode="after")
    def small(self) -> "Wide":
        if self.count > 1000:
            raise ValueError(f"{self.count} is too many")
        return self


def refusal(**values: Any) -> str:
    with pytest.raises((ValidationError, TypeError)) as caught:
        Wide(**values)
    return describe_refusal(caught.value, Wide)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"count": CANARY}, "column count: Input should be a valid integer"),
        ({"marks": [1, CANARY]}, "column marks[]: Input should be a valid integer"),
        ({"marks": [1, 2, 3]}, "column marks: List should have at most 2 items"),
        ({"scores": {CANARY: "x"}}, "column scores.*: Input should be a valid number"),
        (
            {"card": {"country": "NZ", "digits": ["x"]}},
            "column card.digits[]: Input should be a valid integer, unable to parse string as an "
            "integer",
        ),
        ({"card": {}}, "column card.country: Field required"),
        ({"color": CANARY}, "column color: Input should be one of 'red'"),
        ({"screams": CANARY}, "column screams: refused by its validator (value_error)"),
        ({"own": CANARY}, "column own: refused by its validator (my_rule)"),
        ({"disguised": CANARY}, "column disguised: refused by its validator (value_error)"),
        ({"count": 1001}, "refused by its validator (value_error)"),
        ({CANARY: 1}, "a column that Wide does not have"),
        ({"Count": 1}, "a column that Wide does not have; is count meant?"),
    ],
)
def test_a_refusal_names_the_column_and_never_the_value(values: Any, text: str) -> None:
    assert refusal(**values) == text


def test_a_validator_with_a_bug_is_named_with_its_line() -> None:
    text = refusal(stumbles=CANARY)
    assert text.startswith("its validator raised TypeError at test_failure.py:")
    assert text.endswith("(return value + {})")


def raised_by_pydantic(kind: Any, context: dict[str, Any]) -> Any:
    def fail(value: Any) -> Any:
        raise PydanticKnownError(kind, context)

    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[Any, BeforeValidator(fail)]).validate_python(None)
    return caught.value.errors()[0]


@pytest.mark.parametrize("known", list_all_errors(), ids=lambda known: known["type"])
def test_of_pydantic_s_own_texts_only_parts_of_the_class_are_kept(known: Any) -> None:
    if known["type"] in ("value_error", "assertion_error"):
        return  # cannot be made this way; see `screams` above
    context = known.get("example_context") or {}
    from_input = {"actual_length": 4711, "tz_actual": 4711}
    varied = {
        name: from_input.get(name, f"{CANARY}, {CANARY}") if isinstance(value, str | int) else value
        for name, value in context.items()
        if name in ("error", "tag", "encoding_error", "attribute", "method_name", *from_input)
    }
    text = safe_message(raised_by_pydantic(known["type"], {**context, **varied}))
    assert CANARY not in text
    assert "4711" not in text
    assert text == safe_message(raised_by_pydantic(known["type"], context))


def test_a_known_text_is_kept_whole() -> None:
    item = raised_by_pydantic("less_than_equal", {"le": 1})
    assert safe_message(item) == "Input should be less than or equal to 1"


def described(code: Any) -> str:
    try:
        code()
    except BaseException as error:
        return describe_exception(error, __name__)
    raise AssertionError("nothing was raised")


class TypoedModel(BaseModel):
    amount: float


def key_of_code() -> Any:
    return {}["amount"]


def key_of_input() -> Any:
    return {}[json.loads(f'"{CANARY}"')]


def attribute() -> Any:
    return object().amount  # type: ignore[attr-defined]


def name() -> Any:
    return amuont  # type: ignore[name-defined]  # noqa: F821


def arithmetic() -> Any:
    return float(CANARY)


def in_a_library() -> Any:
    return json.loads(CANARY)


def shape_of_a_request() -> Any:
    return TypoedModel.model_validate({"amount": CANARY, CANARY: 1})


def shape_of_a_map() -> Any:
    return TypeAdapter(dict[str, TypoedModel]).validate_python({CANARY: {}})


@pytest.mark.parametrize(
    ("code", "start"),
    [
        (key_of_code, "KeyError 'amount' at"),
        (key_of_input, "KeyError at"),
        (attribute, "AttributeError 'amount' at"),
        (name, "NameError 'amuont' at"),
        (arithmetic, "ValueError at"),
        (in_a_library, "JSONDecodeError at"),
        (
            shape_of_a_request,
            "TypoedModel: amount: Input should be a valid number, unable to parse string as a "
            "number at",
        ),
        (shape_of_a_map, "dict[str,TypoedModel]: *.amount: Field required at"),
    ],
)
def test_an_exception_is_named_with_class_line_and_source(code: Any, start: str) -> None:
    text = described(code)
    first = code.__code__.co_firstlineno
    line = text.removeprefix(start)
    assert line.startswith(f" test_failure.py:{first + 1} (return ")
    assert CANARY not in text


def test_a_module_that_is_gone_leaves_the_class() -> None:
    try:
        arithmetic()
    except ValueError as error:
        assert describe_exception(error, "no.such.module") == "ValueError"


def fingerprint(error: Any, model_id: str = "m") -> str:
    return Failure.of(error, model_id).fingerprint


def test_equal_causes_have_one_fingerprint_whatever_the_record_held() -> None:
    same = [
        fingerprint(RowValidationError(refusal(**values), detail=f"row {row}"))
        for row, values in enumerate(
            (
                {"count": "a"},
                {"count": None},
                {"count": [CANARY]},
                {"count": "b", "color": "green"},
            )
        )
    ]
    lengths = [fingerprint(RowValidationError(refusal(marks=[0] * n))) for n in (3, 4, 500)]
    maps = [fingerprint(RowValidationError(refusal(scores={key: "x"}))) for key in "abc"]
    extra = [fingerprint(RowValidationError(refusal(**{f"zz{n}": n}))) for n in range(3)]
    assert [len(set(group)) for group in (same, lengths, maps, extra)] == [1, 1, 1, 1]
    assert len({*same, *lengths, *maps, *extra}) == 4


def test_different_causes_have_different_fingerprints() -> None:
    found = [
        fingerprint(RowValidationError("a")),
        fingerprint(RowValidationError("b")),
        fingerprint(ExtractError("a")),
        fingerprint(ExtractError("a", error="KeyError")),
        fingerprint(ExtractError("a", error="ValueError")),
        fingerprint(DecodeError("a")),
        fingerprint(RouteError("a")),
        fingerprint(RowValidationError("a"), "other-model"),
        fingerprint(RowValidationError("a"), ""),
    ]
    assert len(set(found)) == len(found)


def test_what_a_dead_letter_carries() -> None:
    error = RowValidationError("column a: Field required", detail="row 3")
    failure = Failure.of(error, "m")
    assert failure.attributes() == {
        "failure_stage": "validate",
        "failure_error": "RowValidationError",
        "failure_message": "row 3: column a: Field required",
        "failure_fingerprint": failure.fingerprint,
    }
    assert len(failure.fingerprint) == 16
    assert Failure.of(pickle.loads(pickle.dumps(error)), "m") == failure


def test_every_stage_has_its_error() -> None:
    errors = (DecodeError, RouteError, ExtractError, RowValidationError)
    assert [error.stage for error in errors] == [stage.value for stage in Stage]
