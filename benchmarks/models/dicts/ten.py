"""Ten models whose extractor gives dicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.models.clicks import as_dicts, register
from extractors import Envelope


def extract(envelope: Envelope) -> Iterator[dict[str, Any]]:
    """The rows of one envelope."""
    return as_dicts(envelope)


register(extract, 10)
