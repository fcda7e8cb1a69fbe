"""Processes that are started, killed with -9 and started again."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from functools import partial
from pathlib import Path
from random import Random
from threading import Event

from conftest import eventually
from forked import FORKS
from steps import FORKER, FRONT, GROUP, WORKER, Death, watch

PATIENCE = 120.0

_started: list[Life] = []


@dataclass
class Kills:
    """What kills have met.

    Attributes:
        starts: of runs and followers.
        workers: killed without the process in front.
        moments: steps that were under way at a random moment, or "between steps".
        steps: where processes killed themselves.
    """

    starts: int = 0
    workers: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """Runs and followers killed."""
        return self.moments.total() + self.steps.total()


class Life:
    """One start of the command `weighbridge run`.

    Args:
        folder: where its log and output go.
        name: of these files.
        arguments: those of `weighbridge run`.
        environment: what is added to the environment.
        death: where it kills itself, if so.
        batch_bytes: most bytes of a batch.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        arguments: Sequence[str],
        environment: dict[str, str],
        death: Death | None = None,
        batch_bytes: int | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{name}.log"
        self.death = death
        self._lock = folder / f"{name}.lock"
        live = (list(arguments), environment, self.log, self._lock, death, batch_bytes)
        self._process = FORKS.Process(target=_live, args=live)
        self._process.start()
        _started.append(self)

    def passed(self) -> list[tuple[float, int, str, str]]:
        """Moment, process, "before" or "after", and step, of all steps so far."""
        if not self.log.exists():
            return []
        found = []
        # A reader may see the beginning of a line that is being written.
        for line in self.log.read_text().rpartition("\n")[0].splitlines():
            moment, pid, when, step = line.split(" ", 3)
            found.append((float(moment), int(pid), when, step))
        return found

    def times(self, step: str) -> int:
        """How often a step was finished."""
        return sum((when, name) == ("after", step) for _, _, when, name in self.passed())

    def under_way(self) -> set[str]:
        """Steps that were entered and not left."""
        open_ones: Counter[tuple[int, str]] = Counter()
        for _, pid, when, step in self.passed():
            open_ones[pid, step] += 1 if when == "before" else -1
        return {step for (_, step), times in open_ones.items() if times > 0}

    @property
    def runs(self) -> bool:
        """Whether the process in front is there."""
        return self._process.is_alive()

    def ended(self, seconds: float = PATIENCE) -> int:
        """Exit status, once it has ended by itself."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"still running: {self.output}"
        return self._process.exitcode

    def kill(self, victim: str = FRONT) -> None:
        """Kill it with -9, or it and all that it has forked, if it is still there."""
        pid = self._process.pid
        assert pid is not None
        if self.runs:
            if victim == GROUP:
                with suppress(ProcessLookupError):  # too young to have a group
                    os.killpg(pid, signal.SIGKILL)
            self._process.kill()
        self._process.join(PATIENCE)

    def left_no_process(self) -> bool:
        """Whether all that it has forked is gone, too: each of them holds the lock."""
        with open(self._lock, "a") as stream:
            try:
                flock(stream, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                return False
            flock(stream, LOCK_UN)
            return True

    @property
    def output(self) -> str:
        """What it printed."""
        out = self.log.with_suffix(".out")
        return out.read_text() if out.exists() else ""


def end_all() -> None:
    """Leave nothing running, also where a test has failed."""
    while _started:
        _started.pop().kill(GROUP)


def spare_moment(random: Random, longest: float) -> None:
    """Let a random time go by: the moment of a kill is what is random here."""
    Event().wait(random.uniform(0, longest))


def kill_at(life: Life, random: Random, longest: float, kills: Kills) -> None:
    """Let a process die where it is to, or kill it at a random moment once it works."""
    victim = "" if life.death is None else life.death.victim
    if life.death is not None and victim in (FRONT, GROUP):
        status = life.ended()
        assert status in (0, -signal.SIGKILL), life.output
        if status:  # a run may have nothing to do there
            kills.steps[f"{life.death.when} {life.death.step}"] += 1
    elif victim == FORKER:
        assert life.ended() == 1, life.output
        assert "WorkersGone" in life.output
        kills.workers += 1
    else:
        _kill_by_and_by(life, random, longest, kills)
        kills.workers += victim == WORKER and life.log.with_suffix(".died").exists()
    eventually(life.left_no_process, 30)


def _kill_by_and_by(life: Life, random: Random, longest: float, kills: Kills) -> None:
    if random.random() < 0.85:  # the others while they start
        eventually(lambda: bool(life.passed()) or not life.runs, PATIENCE)
    spare_moment(random, longest)
    killed = life.runs
    life.kill(random.choice((FRONT, GROUP)))
    if killed:
        kills.moments.update(life.under_way() or {"between steps"})


def _live(
    arguments: list[str],
    environment: dict[str, str],
    log: Path,
    lock: Path,
    death: Death | None,
    batch_bytes: int | None,
) -> None:
    os.setsid()
    os.environ.update(environment)
    out = os.open(log.with_suffix(".out"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    flock(os.open(lock, os.O_RDWR | os.O_CREAT), LOCK_SH)
    watch(log, death)
    if batch_bytes is not None:
        _cut_at(batch_bytes)
    from pipelines.cli import main

    sys.argv = ["weighbridge", "run"]
    main(["run", *arguments])


def _cut_at(batch_bytes: int) -> None:
    """Small batches, so that a small input has many; there is no flag for it."""
    from pipelines import batches, follow, main

    main.cut = follow.cut = partial(batches.cut, max_bytes=batch_bytes)  # type: ignore[assignment]
