"""Says in the log when envelopes begin to be dropped, and when that has ended."""

from __future__ import annotations

from weighbridge.counts import Counts
from weighbridge.log import may_log, warn

QUIET_SECONDS = 10.0
"""Without a drop for so long, dropping has ended."""


class DropLog:
    """Looks at the counts now and then.

    Args:
        counts: of the publisher.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._seen = self._before = 0
        self._last = 0.0
        self._told = False

    def look(self, now: float) -> None:
        """Compare with the last time; `now` is of the monotonic clock."""
        total = self._counts.dropped()
        if total > self._seen:
            if not self._told and may_log("drop"):
                self._told, self._before = True, self._seen
                warn("weighbridge began to drop envelopes: %s so far", self._causes())
            self._seen, self._last = total, now
        elif self._told and now - self._last >= QUIET_SECONDS:
            self._end(total)

    def close(self) -> None:
        """Say what was dropped by the end."""
        total = self._counts.dropped()
        if total > self._seen or self._told:
            dropped = total - self._before
            warn("weighbridge dropped %d envelopes: %s so far", dropped, self._causes())

    def _end(self, total: int) -> None:
        self._told = False
        seconds = int(QUIET_SECONDS)
        warn("weighbridge dropped %d envelopes, none for %d s", total - self._before, seconds)

    def _causes(self) -> str:
        causes = self._counts.stats(0)["dropped"]
        return ", ".join(f"{cause} {count}" for cause, count in sorted(causes.items()))
