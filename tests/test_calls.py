import asyncio
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from extractors import Envelope, Extractor, ModelSettings, Row
from extractors._calls import ExtractorCalls, Taken
from extractors.testing import envelope
from schemas import DecodeError, ExtractError, Failure, RecordError, RowValidationError
from schemas.guard import TimeLimit

CANARY = "canary-4711"
SETTINGS = ModelSettings(max_rows_per_envelope=5, timeout=timedelta(seconds=0.2))


def only_odd(value: int) -> int:
    if not value % 2:
        raise ValueError(f"{value} is even")
    return value


def only_small(value: int) -> int:
    return value + (1 if value < 100 else "x")  # type: ignore[operator]


class Number(Row):
    number: int
    limited: int = Field(default=0, le=10)
    odd: Annotated[int, AfterValidator(only_odd)] = 1
    small: Annotated[int, AfterValidator(only_small)] = 1


class Titled(Row):
    model_config = ConfigDict(title="A number")
    number: int


class Larger(Number):
    more: int = 0


class Foreign(BaseModel):
    number: int


class Card(BaseModel):
    country: str
    digits: list[int]


@pytest.fixture(scope="module")
def limit() -> Iterator[TimeLimit]:
    limit = TimeLimit()
    yield limit
    limit.close()


Call = Callable[[Callable[[Envelope], Any]], tuple[list[dict[str, Any]], bool]]
"""Gives the rows of one envelope, and whether the row class has checked them; raises its error."""


@pytest.fixture
def call(limit: TimeLimit) -> Call:
    def call(
        function: Callable[[Envelope], Any], row: type[Row] = Number
    ) -> tuple[list[dict[str, Any]], bool]:
        entry = Extractor("m", "prediction", row, "untyped", SETTINGS, function, None)
        captured = envelope(
            request={"text": CANARY, "number": 4711, CANARY: 1}, response=b"{nonsense"
        )
        found = ExtractorCalls(entry, limit).extract([captured])
        for position, error in found.failed:
            assert position == 0
            raise error
        assert found.empty == ([] if found.checked.rows or found.unchecked.rows else [0])
        return found.checked.rows or found.unchecked.rows, bool(found.checked.rows)

    return call


def refusal(call: Call, function: Callable[[Envelope], Any], **more: Any) -> RecordError:
    with pytest.raises(RecordError) as caught:
        call(function, **more)
    error = caught.value
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    for text in (str(error), *Failure.of(error, "m").attributes().values()):
        assert CANARY not in text
        assert "4711" not in text
    return error


def test_rows_come_out_as_dicts_of_checked_values(call: Call) -> None:
    def extract(envelope: Envelope) -> Iterator[Number]:
        yield Number(number=1)
        yield Larger(number=2, more=3)

    found = call(extract)
    assert found[1]
    assert [row["number"] for row in found[0]] == [1, 2]


@pytest.mark.parametrize("container", [list, tuple, iter, lambda items: (item for item in items)])
def test_anything_that_can_be_gone_through_will_do(call: Call, container: Any) -> None:
    found = call(lambda envelope: container([{"number": "unchecked"}]))
    assert (list(found[0]), found[1]) == ([{"number": "unchecked"}], False)


@pytest.mark.parametrize("nothing", [(), [], set(), iter(())])
def test_no_rows_are_no_failure(call: Call, nothing: Any) -> None:
    assert call(lambda envelope: nothing) == ([], False)


class Dictionary(dict[str, Any]):
    pass


def test_rows_and_dicts_may_be_mixed(call: Call) -> None:
    found = call(lambda envelope: [Number(number=1), {"number": 2}, Dictionary(number=3)])
    assert found[1]
    assert [row["number"] for row in found[0]] == [1, 2, 3]


def test_envelopes_of_one_message_go_separate_ways(limit: TimeLimit) -> None:
    def extract(envelope: Envelope) -> Iterator[Any]:
        for kind, number in envelope.request:
            yield {"n": Number, "d": dict}[kind](number=number)

    n, d, x = "ndx"
    bodies = [[(n, 1)], [], [(d, 2), (d, 3)], [(n, 4), (d, 5)], [(x, 6)], [(n, 7), (d, CANARY)]]
    whole = [envelope(request=body) for body in bodies]
    entry = Extractor("m", "prediction", Number, "untyped", SETTINGS, extract, None)
    calls = ExtractorCalls(entry, limit)
    found = calls.extract(iter(whole))
    assert found.unchecked == Taken([{"number": 2}, {"number": 3}], [2], [2])
    assert [row["number"] for row in found.checked.rows] == [1, 4, 5]
    assert (found.checked.counts, found.checked.positions) == ([1, 2], [0, 3])
    assert found.empty == [1]
    assert [(i, error.stage) for i, error in found.failed] == [(4, "extract"), (5, "validate")]
    assert calls.extract([whole[2], whole[2]]).unchecked.positions == [0, 1]
    assert calls.extract([whole[0], whole[0]]).checked.counts == [1, 1]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"number": CANARY}, "row 1: column number: Input should be a valid integer"),
        ({CANARY: 1, "number": 1}, "row 1: a column that Number does not have"),
        ({"number": 1, "odd": 4712}, "row 1: column odd: refused by its validator (value_error)"),
    ],
)
def test_a_dict_among_rows_is_validated_at_once(call: Call, item: Any, message: str) -> None:
    error = refusal(call, lambda envelope: [Number(number=1), item])
    assert (type(error), str(error)) == (RowValidationError, message)


def test_a_validator_with_a_bug_refuses_a_dict_among_rows(call: Call) -> None:
    error = refusal(call, lambda envelope: [Number(number=1), {"number": 1, "small": 4711}])
    assert isinstance(error, RowValidationError)
    assert error.cause.startswith("its validator raised TypeError at test_calls.py:")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("number", "returned a str; yield rows, or return a list"),
        (b"number", "returned a bytes; yield rows, or return a list"),
        (None, "returned None; yield rows, or return a list"),
        (Number(number=1), "returned a Number; yield rows, or return a list"),
        (Foreign(number=1), "returned a Foreign; yield rows, or return a list"),
        ({"number": 1}, "returned a dict; yield rows, or return a list"),
        (4711, "returned an int; yield rows, or return a list"),
        (envelope(), "returned an Envelope; yield rows, or return a list"),
        (Number, "returned a ModelMetaclass; yield rows, or return a list"),
        ([Foreign(number=1)], "row 0: gave a Foreign for a row; rows are Number or dict"),
        (
            [Number(number=1), CANARY],
            "row 1: gave a str for a row; rows are Number or dict",
        ),
        ([None], "row 0: gave None for a row; rows are Number or dict"),
        ([("number", 1)], "row 0: gave a tuple for a row; rows are Number or dict"),
        ([[{"number": 1}]], "row 0: gave a list for a row; rows are Number or dict"),
        ([Titled(number=1)], "row 0: gave a Titled for a row; rows are Number or dict"),
        ([{"number": 1}] * 6, "gave more than 5 rows, ModelSettings.max_rows_per_envelope"),
    ],
)
def test_what_are_no_rows_is_said_in_their_words(call: Call, result: Any, message: str) -> None:
    error = refusal(call, lambda envelope: result)
    assert (type(error), str(error), error.error) == (ExtractError, message, "ExtractError")


def test_a_row_that_is_gone_through_is_not_taken_for_its_fields(call: Call) -> None:
    async def awaited(envelope: Envelope) -> list[Number]:
        return [Number(number=1)]

    coroutines: list[Any] = []

    def extract(envelope: Envelope) -> Any:
        coroutines.append(awaited(envelope))
        return coroutines[0]

    assert str(refusal(call, extract)) == "returned a coroutine; yield rows, or return a list"
    assert asyncio.run(coroutines[0]) == [Number(number=1)]


def test_as_many_rows_as_the_limit_are_fine(call: Call) -> None:
    assert len(call(lambda envelope: [{"number": 1}] * 5)[0]) == 5


def test_yielding_without_end_stops_at_the_row_limit(call: Call) -> None:
    made = []

    def extract(envelope: Envelope) -> Iterator[dict[str, int]]:
        try:
            while True:
                made.append(1)
                yield {"number": 1}
        finally:
            made.append("closed")  # type: ignore[arg-type]

    assert "gave more than 5 rows" in str(refusal(call, extract))
    assert made == [1] * 6 + ["closed"]


def forever(envelope: Envelope) -> Iterator[Number]:
    while True:
        pass
    yield Number(number=1)


def swallowing(envelope: Envelope) -> Iterator[Number]:
    while True:
        with suppress(Exception):
            raise KeyError
    yield Number(number=1)


def swallowing_everything_twice(envelope: Envelope) -> Iterator[Number]:
    for _ in range(2):
        with suppress(BaseException):
            while True:
                pass
    while True:
        pass
    yield Number(number=1)


def slow_rows(envelope: Envelope) -> Iterator[Number]:
    yield Number(number=1)
    yield from forever(envelope)


@pytest.mark.parametrize("function", [forever, swallowing, swallowing_everything_twice, slow_rows])
def test_looping_for_ever_stops_at_the_time_limit(call: Call, function: Any) -> None:
    error = refusal(call, function)
    assert isinstance(error, ExtractError)
    assert (str(error), error.error) == ("took longer than 0.2 s", "TimeLimitReached")
    assert call(lambda envelope: [{"number": 1}])[0]  # the next call has its own time


def key(envelope: Envelope) -> Any:
    return envelope.request["amount"]


def key_of_input(envelope: Envelope) -> Any:
    return {}[envelope.request["text"]]


def value(envelope: Envelope) -> Any:
    yield Number(number=1)
    int(envelope.request["text"])


def unknown_attribute(envelope: Envelope) -> Any:
    return envelope.requst  # type: ignore[attr-defined]


def assigns(envelope: Envelope) -> Any:
    envelope.model_version = "other"  # type: ignore[misc]


def invents(envelope: Envelope) -> Any:
    envelope.note = "other"  # type: ignore[attr-defined]


def raises(envelope: Envelope) -> Any:
    raise RuntimeError(f"cannot cope with {envelope.request}")


def exits(envelope: Envelope) -> Any:
    sys.exit(f"cannot cope with {envelope.request}")


def cancels(envelope: Envelope) -> Any:
    raise asyncio.CancelledError(envelope.request["text"])


def our_own_error(envelope: Envelope) -> Any:
    raise ExtractError(envelope.request["text"])


def another_stage(envelope: Envelope) -> Any:
    raise RowValidationError(envelope.request["text"])


def never_ends(envelope: Envelope) -> Any:
    return never_ends(envelope)


class Touchy:
    def __iter__(self) -> Iterator[Any]:
        raise LookupError(CANARY)


def touchy(envelope: Envelope) -> Any:
    return Touchy()


@pytest.mark.parametrize(
    ("function", "start", "offset"),
    [
        (key, "KeyError 'amount'", 1),
        (key_of_input, "KeyError", 1),
        (value, "ValueError", 2),
        (unknown_attribute, "AttributeError 'requst'", 1),
        (assigns, "AttributeError", 1),
        (invents, "AttributeError", 1),
        (raises, "RuntimeError", 1),
        (exits, "SystemExit", 1),
        (cancels, "CancelledError", 1),
        (our_own_error, "ExtractError", 1),
        (another_stage, "RowValidationError", 1),
        (never_ends, "RecursionError", 1),
    ],
)
def test_whatever_it_raises_is_named_with_its_line(
    call: Call, function: Any, start: str, offset: int
) -> None:
    error = refusal(call, function)
    line = function.__code__.co_firstlineno + offset
    assert isinstance(error, ExtractError)
    assert error.error == start.partition(" ")[0]
    assert str(error).startswith(f"raised {start} at test_calls.py:{line} (")


def test_what_raises_while_it_is_gone_through_is_the_extractor_s_own(call: Call) -> None:
    error = refusal(call, touchy)
    assert (error.stage, error.error) == ("extract", "LookupError")


def test_an_interrupt_by_hand_is_not_held_back(call: Call) -> None:
    def interrupted(envelope: Envelope) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(interrupted)


def broken_body(envelope: Envelope) -> Any:
    return envelope.response["x"]


def broken_view(envelope: Envelope) -> Any:
    return envelope.response_as(Card)


@pytest.mark.parametrize("function", [broken_body, broken_view])
def test_a_body_that_is_not_what_it_claims_stays_a_decode_failure(
    call: Call, function: Any
) -> None:
    error = refusal(call, function)
    assert type(error) is DecodeError
    assert error.stage == "decode"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"number": CANARY}, "column number: Input should be a valid integer"),
        ({}, "column number: Field required"),
        (
            {"number": 1, "limited": 4711},
            "column limited: Input should be less than or equal to 10",
        ),
        ({"number": 1, CANARY: 1}, "a column that Number does not have"),
        ({"number": 1, "limted": 1}, "a column that Number does not have; is limited meant?"),
        ({"number": 1, "odd": 4712}, "column odd: refused by its validator (value_error)"),
    ],
)
def test_its_own_row_class_refusing_is_of_stage_validate(
    call: Call, values: Any, message: str
) -> None:
    def extract(envelope: Envelope) -> Iterator[Number]:
        yield Number(number=1)
        yield Number(**values)

    error = refusal(call, extract)
    assert (error.stage, str(error)) == ("validate", message)


def test_a_row_class_with_a_title_is_still_its_own(call: Call) -> None:
    error = refusal(call, lambda envelope: [Titled(number=CANARY)], row=Titled)  # type: ignore[arg-type,call-arg]
    assert (error.stage, str(error)) == (
        "validate",
        "column number: Input should be a valid integer",
    )


def view(envelope: Envelope) -> Any:
    return envelope.request_as(Card)


def nested_view(envelope: Envelope) -> Any:
    return Card.model_validate({"country": "NZ", "digits": [1, envelope.request["text"]]})


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (view, "Card: country: Field required"),
        (nested_view, "Card: digits[]: Input should be a valid integer, unable to parse string"),
        (lambda envelope: Foreign(number=CANARY), "Foreign: number: Input should be a valid"),  # type: ignore[arg-type]
        (lambda envelope: [Titled()], "A number: number: Field required"),  # type: ignore[call-arg]
    ],
)
def test_another_model_refusing_is_of_stage_extract(call: Call, function: Any, words: str) -> None:
    error = refusal(call, function)
    assert (error.stage, error.error) == ("extract", "ValidationError")
    assert str(error).startswith(f"raised {words}")
    assert f" at test_calls.py:{function.__code__.co_firstlineno}" in str(error) or (
        f" at test_calls.py:{function.__code__.co_firstlineno + 1}" in str(error)
    )


def test_equal_causes_are_one_group(call: Call) -> None:
    def failing_at(position: int) -> Callable[[Envelope], Iterable[Any]]:
        return lambda envelope: [*[Number(number=1)] * position, {"number": "x" * position}]

    errors = [refusal(call, failing_at(position)) for position in (1, 2, 3)]
    assert len({Failure.of(error, "m").fingerprint for error in errors}) == 1
    assert [error.detail for error in errors] == ["row 1", "row 2", "row 3"]


def test_calls_start_no_threads_of_their_own(call: Call) -> None:
    before = threading.active_count()
    for _ in range(10):
        call(lambda envelope: [])
    assert threading.active_count() == before
