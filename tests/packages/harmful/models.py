"""Models that harm others, each in its own way, and one that does not."""

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from extractors import Envelope, ModelSettings, Row, extractor

QUICK = ModelSettings(timeout=timedelta(seconds=0.5), max_rows_per_envelope=50, max_row_bytes=2000)


class Number(Row):
    number: int
    text: str = ""


def _number(envelope: Envelope) -> Iterator[dict[str, Any]]:
    yield {"number": envelope.request["number"]}


@extractor("good", row=Number, model_type="untyped", settings=QUICK)
def good(envelope: Envelope) -> Iterator[dict[str, Any]]:
    yield from _number(envelope)


@extractor("loops", row=Number, model_type="untyped", settings=QUICK)
def loops(envelope: Envelope) -> Iterator[dict[str, Any]]:
    while not isinstance(envelope.request["number"], float):
        pass
    yield {"number": 1}


@extractor("endless", row=Number, model_type="untyped", settings=QUICK)
def endless(envelope: Envelope) -> Iterator[dict[str, Any]]:
    while True:
        yield {"number": 1}


@extractor("raises", row=Number, model_type="untyped", settings=QUICK)
def raises(envelope: Envelope) -> Iterator[dict[str, Any]]:
    if isinstance(envelope.request["number"], int):
        raise RuntimeError
    yield {"number": 1}


@extractor("invalid", row=Number, model_type="untyped", settings=QUICK)
def invalid(envelope: Envelope) -> Iterator[dict[str, Any]]:
    yield {"number": "one"}


@extractor("large", row=Number, model_type="untyped", settings=QUICK)
def large(envelope: Envelope) -> Iterator[dict[str, Any]]:
    yield {"number": 1, "text": "x" * envelope.request["number"]}


@extractor("hungry", row=Number, model_type="untyped")
def hungry(envelope: Envelope) -> Iterator[dict[str, Any]]:
    kept = []
    while True:
        kept.append(b"x" * (8 << 20))
        yield {"number": len(kept)}


@extractor("sleeps", row=Number, model_type="untyped", settings=QUICK)
def sleeps(envelope: Envelope) -> Iterator[dict[str, Any]]:
    time.sleep(1e6)
    yield {"number": 1}


@extractor("stuck", row=Number, model_type="untyped", settings=QUICK)
def stuck(envelope: Envelope) -> Iterator[dict[str, Any]]:
    re.match(r"(a+)+$", "a" * 60 + "b")  # lets no other thread run
    yield {"number": 1}
