"""How much chaos: little with the other tests, much with CHAOS=long; CHAOS_SEED repeats one."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from random import randrange

from lives import Kills
from rich.console import Console
from rich.table import Table
from truth import Leftovers


@dataclass(frozen=True)
class Scale:
    """How often followers and runs are killed, and over how many envelopes runs go."""

    follower_kills: int
    shared_kills: int
    run_kills: int
    envelopes: int
    batch_files: int
    """Archive files that make a batch of a run; one that is killed has two or three batches."""


LONG = os.environ.get("CHAOS") == "long"
SCALE = Scale(36, 16, 100, 100_000, 2) if LONG else Scale(4, 2, 5, 5_000, 4)
SEED = int(os.environ.get("CHAOS_SEED") or (randrange(10**6) if LONG else 1))


class Story:
    """What happened in a test: printed at its end, and its seed at once, for those that fail.

    Args:
        name: of what was killed.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = time.monotonic()
        self.kills = Kills()
        print(f"\n{name}: CHAOS_SEED={SEED}")

    def tell(self, envelopes: int, rows: int, duplicates: int, left: Leftovers) -> None:
        """Print it."""
        kills, seconds = self.kills, time.monotonic() - self._started
        figures = {
            "kills": kills.count,
            "workers killed": kills.workers,
            "starts": kills.starts,
            "envelopes": envelopes,
            "rows": rows,
            "duplicates at the receiver": duplicates,
            "orphans": left.orphans,
            "stale entries": left.stale,
            ".tmp": left.temporary,
            "seconds": round(seconds),
        }
        table = Table(*figures, title=f"{self._name}, CHAOS_SEED={SEED}")
        table.add_row(*(f"{figure:,}" for figure in figures.values()))
        console = Console(width=120)
        console.print(table)
        for what, met in (("at random moments", kills.moments), ("at steps", kills.steps)):
            told = ", ".join(f"{name} {times}" for name, times in sorted(met.items()))
            console.print(f"killed {what}: {told or 'none'}", highlight=False)
