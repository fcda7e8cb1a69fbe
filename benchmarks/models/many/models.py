"""As many models as an environment variable says, whose extractor gives dicts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from benchmarks.models.clicks import as_dicts, register
from extractors import Envelope


def extract(envelope: Envelope) -> Iterator[dict[str, Any]]:
    """The rows of one envelope."""
    return as_dicts(envelope)


register(extract, int(os.environ.get("WEIGHBRIDGE_BENCH_MODELS", "1000")))
