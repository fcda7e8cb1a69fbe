"""A grouping that makes what a step is given the same whenever the step is repeated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.trigger import AccumulationMode, Always
from apache_beam.transforms.window import GlobalWindows


class Stabilize(beam.PTransform[Any, Any]):
    """Groups pairs by key and gives them one by one. In and out: (key, value), in no window.

    Keyed, so that two values of a key are not at work at once. Beam's `ReshufflePerKey` carries the
    windows of a stream with it, in a way that Prism cannot read back; here they are not needed.
    """

    def expand(self, pairs: Any) -> Any:
        """Group without waiting, and ungroup."""
        return (
            pairs
            | "AtOnce"
            >> beam.WindowInto(
                GlobalWindows(), trigger=Always(), accumulation_mode=AccumulationMode.DISCARDING
            )
            | "Group" >> beam.GroupByKey()
            | "Ungroup" >> beam.FlatMapTuple(_pairs).with_output_types(pairs.element_type)
        )


def _pairs(key: Any, values: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for value in values:
        yield key, value
