"""Runs a plan as any other run, and marks what became of its messages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pipelines import marks
from pipelines.address import Folder
from pipelines.batches import Input, InputFile
from pipelines.display import Display
from pipelines.main import run_with
from pipelines.options import RunOptions
from pipelines.replay.plan import Plan
from pipelines.report import Report
from pipelines.store import Store
from pipelines.stored import FAILURES, PARKED
from schemas import ConfigurationError


@dataclass
class Outcome:
    """What became of the messages of a folder.

    Attributes:
        done: they became rows, or were skipped, or known.
        other: they failed for another cause; a new dead letter stands for each.
        same: they failed for the same cause, or are parked, as before.
    """

    done: int = 0
    other: int = 0
    same: int = 0

    @property
    def total(self) -> int:
        """All messages."""
        return self.done + self.other + self.same


@dataclass
class Replayed:
    """What a replay did, and what became of its stored messages, by folder."""

    report: Report
    outcomes: dict[str, Outcome]


def replay(options: RunOptions, plan: Plan, display: Display, forked: bool = False) -> Replayed:
    """Run what a plan names, and mark as done what did not fail for the same cause again.

    Marks follow the commit of the rows. A kill before them leaves messages to the next replay,
    which finds their rows in the tables.

    Raises:
        ConfigurationError: as of a run; or another replay of the home is at work.
    """
    with _only_replay(options.home) as store:
        name = f"{time.time_ns():x}"
        outcomes = {FAILURES: Outcome(), PARKED: Outcome()}

        def mark(files: Sequence[InputFile]) -> None:
            came_out = marks.produced(store, name)
            for folder, outcome in outcomes.items():
                wanted = plan.stored(folder, files, store)
                marks.mark_done(store, folder, wanted - came_out)
                outcome.done += len(wanted - came_out)
                outcome.same += len(wanted & came_out)

        options = replace(options, replay=name)
        report = run_with(options, display, forked, Input(plan.files, mark))
        known = set[bytes]().union(*plan.wanted.values())
        other = len(marks.produced(store, f"{name}/{marks.AGAIN}") - known)
        outcomes[FAILURES].other, outcomes[FAILURES].done = (
            other,
            outcomes[FAILURES].done - other,
        )
        marks.forget_produced(store, name)
    return Replayed(report, outcomes)


@contextmanager
def _only_replay(home: Folder) -> Iterator[Store]:
    store = Store(home)
    with store.try_locked("replay") as ours:
        if not ours:
            raise ConfigurationError(
                f"another `weighbridge replay` is at work in {home}; wait until it is done"
            )
        for name in store.names(marks.REPLAYS, marks.SUFFIX):  # of one that was killed
            store.remove(name)
        yield store
