"""Models harm-0 to harm-49; the first three harm the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from extractors import Envelope, ModelSettings, Row, extractor

MODELS, HARMFUL = 50, 3
SETTINGS = ModelSettings(timeout=timedelta(seconds=0.5))


class Text(Row):
    number: int
    text: str


def _loops(envelope: Envelope) -> Iterator[dict[str, Any]]:
    while envelope.request:
        pass
    yield {}


def _endless(envelope: Envelope) -> Iterator[dict[str, Any]]:
    while True:
        yield envelope.request


def _raises(envelope: Envelope) -> Iterator[dict[str, Any]]:
    raise RuntimeError


def _good(envelope: Envelope) -> Iterator[dict[str, Any]]:
    yield envelope.request


_WAYS: list[Callable[[Envelope], Iterator[dict[str, Any]]]] = [_loops, _endless, _raises]
for _number in range(MODELS):
    _function = (_WAYS + [_good] * MODELS)[_number]
    extractor(f"harm-{_number}", row=Text, model_type="untyped", settings=SETTINGS)(_function)
