"""Ten models whose extractor gives row objects."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.models.clicks import Click, as_objects, register
from extractors import Envelope


def extract(envelope: Envelope) -> Iterator[Click]:
    """The rows of one envelope."""
    return as_objects(envelope)


register(extract, 10)
