"""CPU and wall time of variants that take turns, so that what disturbs one disturbs all alike."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

GC_THRESHOLD = 100_000
"""What the pipeline sets for itself, so that a loop runs with the same."""


@dataclass(frozen=True)
class Sample:
    """Seconds of one run, CPU with that of its child processes."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Spread:
    """A median, and what it lies between."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Median and extremes of the values."""
        return cls(median(values), min(values), max(values))


def measured(run: Callable[[], object]) -> Sample:
    """One run, behind a garbage collection that is not counted."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    cpu, wall = _cpu(), time.perf_counter()
    run()
    return Sample(_cpu() - cpu, time.perf_counter() - wall)


def ratios(references: Sequence[float], others: Sequence[float]) -> Spread:
    """Reference by other, round by round."""
    return Spread.of([one / other for one, other in zip(references, others, strict=True)])


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Another value for an attribute, for a while: how a cost is taken out to see it."""
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def _cpu() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
