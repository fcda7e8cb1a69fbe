"""Extractors that do everything wrong that an extractor can do."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from extractors import Envelope, ModelSettings, Row, extractor


class Number(Row):
    number: int


class Foreign(Row):
    number: int


QUICK = ModelSettings(timeout=timedelta(seconds=0.3), max_rows_per_envelope=50)


@extractor("raises", row=Number, model_type="untyped")
def raises(envelope: Envelope) -> Iterator[Number]:
    raise RuntimeError(f"cannot cope with {envelope.request}")


@extractor("returns-string", row=Number, model_type="untyped")
def returns_string(envelope: Envelope) -> Any:
    return "number"


@extractor("returns-row", row=Number, model_type="untyped")
def returns_row(envelope: Envelope) -> Any:
    return Number(number=1)


@extractor("returns-none", row=Number, model_type="untyped")
def returns_none(envelope: Envelope) -> Any:
    return None


@extractor("foreign", row=Number, model_type="untyped")
def foreign(envelope: Envelope) -> Iterator[Any]:
    yield Number(number=1)
    yield Foreign(number=2)


@extractor("endless", row=Number, model_type="untyped", settings=QUICK)
def endless(envelope: Envelope) -> Iterator[dict[str, int]]:
    number = 0
    while True:
        yield {"number": number}
        number += 1


@extractor("loops", row=Number, model_type="untyped", settings=QUICK)
def loops(envelope: Envelope) -> Iterator[Number]:
    while True:
        with suppress(Exception):
            envelope.request["n"] + 1
    yield Number(number=1)


@extractor("assigns", row=Number, model_type="untyped")
def assigns(envelope: Envelope) -> Iterator[Number]:
    envelope.model_version = "other"  # type: ignore[misc]
    yield Number(number=1)


@extractor("nothing", row=Number, model_type="untyped")
def nothing(envelope: Envelope) -> list[Number]:
    return []


@extractor("numbers", row=Number, model_type="untyped")
def numbers(envelope: Envelope) -> Iterator[dict[str, Any]]:
    yield {"number": envelope.request["number"]}
