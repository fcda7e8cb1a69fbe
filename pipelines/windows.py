"""When a stream hands on what it has gathered. Windows are of publish time, never of event time.

The watermark of a subscription follows publish times: an event of last week is not late here.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import apache_beam as beam
from apache_beam.transforms.trigger import (
    AccumulationMode,
    AfterCount,
    AfterProcessingTime,
    AfterWatermark,
    Repeatedly,
)
from apache_beam.transforms.window import FixedWindows, GlobalWindows

WINDOW_SECONDS = 60.0
MAX_GROUPED = 64
"""Elements of a key that are handed on before their window ends: they are held in memory."""
ALLOWED_LATENESS = 32 * 24 * 3600
"""Seconds. A topic or a subscription keeps a message for 31 days at most, and a day is for the way
here: nothing can be later. What is would be dropped by the runner, without a trace."""


def publish_windows() -> Any:
    """Groups by minute of publish time, each group once its minute is over.

    What comes later than the watermark is a group by itself. Groups can be empty.
    """
    return beam.WindowInto(
        FixedWindows(WINDOW_SECONDS),
        trigger=AfterWatermark(early=AfterCount(MAX_GROUPED), late=AfterCount(1)),
        accumulation_mode=AccumulationMode.DISCARDING,
        allowed_lateness=ALLOWED_LATENESS,
    )


def every(seconds: float) -> Any:
    """Groups of what came within so many seconds of a group's first element, whatever its time."""
    return beam.WindowInto(
        GlobalWindows(),
        trigger=Repeatedly(AfterProcessingTime(ceil(seconds))),  # Beam takes whole seconds only
        accumulation_mode=AccumulationMode.DISCARDING,
    )
