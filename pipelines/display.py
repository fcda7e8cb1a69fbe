"""What a run tells while it runs; printing is for others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Status:
    """How a follower is doing."""

    envelopes: int
    """Read since the start."""
    rate: float
    """Envelopes a second, over the last half minute."""
    lag: float
    """Seconds from the publishing of the oldest message of the latest batch to its commit."""
    dead_letters: int
    undelivered: int
    """Rows that Arize has not acknowledged."""
    failing: int
    """Batches that failed and will be tried again."""

    def __str__(self) -> str:
        parts = [
            f"{self.envelopes:,} envelopes, {self.rate:,.0f}/s",
            f"lag {self.lag:.1f} s",
            f"dead letters {self.dead_letters:,}",
            f"undelivered {self.undelivered:,}",
        ]
        if self.failing:
            parts.append(f"failing batches {self.failing:,}")
        return " · ".join(parts)


class Display:
    """Takes what a run tells, and shows nothing of it."""

    def say(self, line: str) -> None:
        """Take a line, e.g. about a table that was created."""

    def progress(self, done: int, total: int) -> None:
        """Take bytes of input that are done, and those of all input, after each batch."""

    def status(self, status: Status) -> None:
        """Take a follower's status, after each batch and each few seconds."""
