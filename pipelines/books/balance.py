"""The arithmetic: what a publisher has served against where its envelopes are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipelines.books.beats import NOTHING, Beat, Beats, Counts
from pipelines.books.ids import holes
from pipelines.books.seen import HOUR, Fate, Seen

MICROS = 1_000_000
LOST, FOUND = ("sampled_out", "dropped"), ("committed", "skipped", "dead_letters", "parked")
_COLUMN = {
    Fate.TABLE: "committed",
    Fate.SKIPPED: "skipped",
    Fate.DEAD_LETTER: "dead_letters",
    Fate.PARKED: "parked",
}
Key = tuple[str, str, int]
"""Publisher, model, and hours since 1970, UTC."""


@dataclass
class Books:
    """Counts of envelopes by publisher, model and hour.

    Attributes:
        lines: of publishers that send heartbeats; what they served is in the hour in which they
            said so, and what was found in the hour of its event.
        foreign: of all other ids.
    """

    lines: dict[Key, Counts]
    foreign: dict[Key, Counts]


def total(counts: Counts, *columns: str) -> int:
    """The sum of some columns, over all causes."""
    return sum(count for (column, _), count in counts.items() if column in columns)


def missing(counts: Counts) -> int:
    """Envelopes that were served, and are neither lost on purpose nor found. Too many: below 0."""
    return total(counts, "served") - total(counts, *LOST, *FOUND)


def sum_of(lines: Iterable[Counts]) -> Counts:
    """All counts together."""
    whole: Counts = Counter()
    for line in lines:
        whole.update(line)
    return whole


@dataclass(frozen=True)
class Account:
    """One publisher, from one heartbeat to another.

    Attributes:
        publisher: its id.
        start: the heartbeat at which counting begins; `NOTHING` for one that began later.
        end: that at which it ends.
        models: counts of envelopes whose numbers were given out between the two, by model.
        later: envelopes found that are newer than `end`.
        holes: ranges of numbers between the two that were not found; of them some were sampled
            out, dropped, or never used.
        last_number: the highest number found, -1 without any.
    """

    publisher: str
    start: Beat
    end: Beat
    models: dict[str, Counts]
    later: int
    holes: list[tuple[int, int]]
    last_number: int

    @property
    def counts(self) -> Counts:
        """Counts of all models."""
        return sum_of(self.models.values())

    @property
    def missing(self) -> int:
        """Envelopes that are nowhere."""
        return missing(self.counts)

    @property
    def unfound(self) -> int:
        """How many numbers are in the holes."""
        return sum(end - start + 1 for start, end in self.holes)


class Bookkeeper:
    """Settles accounts.

    Args:
        beats: of all publishers.
        seen: where envelopes are.
        publishers: names by their positions in `seen`.
        whole: envelopes in messages that could not be taken apart, by publisher and stage.
    """

    def __init__(
        self,
        beats: Beats,
        seen: Seen,
        publishers: list[str],
        whole: dict[str, Counts] | None = None,
    ) -> None:
        self._beats, self._seen = beats, seen
        self._positions = {name: position for position, name in enumerate(publishers)}
        self._whole = whole or {}

    def account(self, publisher: str, start: Beat, end: Beat) -> Account:
        """What became of what a publisher served between two of its heartbeats."""
        part = self._seen.of(self._positions[publisher])
        numbers = self._seen.number[part]
        first, last = np.searchsorted(numbers, [start.sequence, end.sequence])
        models = {model: counts.copy() for model, counts in end.models.items()}
        for model, before in start.models.items():
            models.setdefault(model, Counter()).subtract(before)
        chosen = np.arange(part.start + first, part.start + last)
        for model, _, fate, why, count in self._seen.counted(chosen):
            models.setdefault(model, Counter())[_COLUMN[fate], why] += count
        whole = self._unread(publisher, sum_of(models.values()))
        models.setdefault("", Counter()).update(whole)
        return Account(
            publisher,
            start,
            end,
            models,
            len(numbers) - int(last),
            holes(numbers, start.sequence, end.sequence),
            int(numbers[-1]) if len(numbers) else -1,
        )

    def _unread(self, publisher: str, counts: Counts) -> Counts:
        """Dead letters in messages that nobody could take apart, as far as `counts` lack them."""
        found: Counts = Counter()
        lacking = missing(counts)
        for key, count in self._whole.get(publisher, Counter()).items():
            found[key] = max(0, min(count, lacking))
            lacking -= found[key]
        return found

    def settled(self, publisher: str, since: int, until: int) -> Account | None:
        """The account of the heartbeats within a time; None if there are none.

        Where a service captures from several threads, a heartbeat may count an envelope and not
        yet one with a smaller number: then it balances with an earlier start or a later end.
        """
        ends = list(self._beats.before(publisher, until))
        if not ends or ends[0].time < since:
            return None
        later = self._beats.times(publisher)
        ends += [self._beats.at(publisher, int(t)) for t in later[later >= until][-1:]]
        starts = list(self._beats.before(publisher, since, 2)) or [NOTHING]
        accounts = (self.account(publisher, start, end) for end in ends for start in starts)
        best: Account | None = None
        for account in accounts:
            if best is None or abs(account.missing) < abs(best.missing):
                best = account
            if best.missing == 0:
                break
        return best

    def books(self, since: int, until: int) -> Books:
        """All counts of a time, by publisher, model and hour."""
        books = Books({}, {})
        for publisher in self._positions:
            between = self._latest(publisher, since, until)
            if between is not None:
                self._put_served(books, publisher, *between, since)
                self._put_found(books, publisher, *between)
                self._put_whole(books, publisher, between[1])
        foreign = np.flatnonzero(self._seen.publisher < 0)
        _put(books.foreign, "", self._seen, foreign)
        return books

    def _latest(self, publisher: str, since: int, until: int) -> tuple[Beat, Beat] | None:
        ends = list(self._beats.before(publisher, until))
        if not ends or ends[0].time < since:
            return None
        starts = list(self._beats.before(publisher, since)) or [NOTHING]
        return starts[0], ends[0]

    def _put_served(self, books: Books, publisher: str, start: Beat, end: Beat, since: int) -> None:
        times = self._beats.times(publisher)
        times = times[(times >= since) & (times <= end.time)]
        last_of_hour = times[np.flatnonzero(np.diff(times // HOUR, append=-1))]
        beats = [start, *(self._beats.at(publisher, int(time)) for time in last_of_hour)]
        for before, beat in pairwise(beats):
            for model, counts in beat.models.items():
                line = books.lines.setdefault((publisher, model, beat.time // HOUR), Counter())
                line.update(counts)
                line.subtract(before.models.get(model, Counter()))

    def _put_whole(self, books: Books, publisher: str, end: Beat) -> None:
        lines = [line for (name, _, _), line in books.lines.items() if name == publisher]
        found = self._unread(publisher, sum_of(lines))
        if found:
            books.lines.setdefault((publisher, "", end.time // HOUR), Counter()).update(found)

    def _put_found(self, books: Books, publisher: str, start: Beat, end: Beat) -> None:
        part = self._seen.of(self._positions[publisher])
        numbers = self._seen.number[part]
        first, last = np.searchsorted(numbers, [start.sequence, end.sequence]) + part.start
        _put(books.lines, publisher, self._seen, np.arange(first, last))
        newer = np.arange(last, part.stop)
        newer = newer[self._seen.inside[newer]]
        _put(books.lines, publisher, self._seen, newer, "later")


def _put(
    lines: dict[Key, Counts], publisher: str, seen: Seen, chosen: np.ndarray, column: str = ""
) -> None:
    for model, hour, fate, why, count in seen.counted(chosen):
        line = lines.setdefault((publisher, model, hour), Counter())
        line[column or _COLUMN[fate], "" if column else why] += count
