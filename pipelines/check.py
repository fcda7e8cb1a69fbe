"""Numbers that alerts look at and no counter of a job can tell: read from tables and outbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from extractors import Extractors
from pipelines.books.balance import total
from pipelines.books.command import Answer, Asked, ask
from pipelines.books.differences import describe
from pipelines.commands.terminal import opened
from pipelines.destination import Destination
from pipelines.ledger import HEARTBEATS
from pipelines.logs import about
from pipelines.outbox import Outbox
from pipelines.place import Place
from pipelines.tables import table_of
from pipelines.waiting import rows_of, waiting

SINCE = 86400.0
"""Seconds of traffic that the ledger weighs."""
CHECKS = ("missing", "undelivered", "freshness")


@dataclass(frozen=True)
class Limits:
    """What is still well, in seconds.

    Attributes:
        grace: for which what was served may be on its way.
        undelivered: for which rows may wait for Arize.
        age: of the newest heartbeat in the tables.
    """

    grace: float
    undelivered: float
    age: float


@dataclass(frozen=True)
class Finding:
    """One number.

    Attributes:
        check: one of `CHECKS`.
        value: envelopes that are missing; else seconds.
        text: says it to people.
        well: whether it is as it should be.
        table: of the model, where it is about one.
    """

    check: str
    value: float
    text: str
    well: bool
    table: str = ""

    def fields(self) -> dict[str, str | float]:
        """The `extra=` of its line in the log."""
        return {"check": self.check, "value": self.value, **about(self.table)}


def findings(place: Place, extractors: Extractors, limits: Limits, now: float) -> Iterator[Finding]:
    """Look at everything.

    Args:
        place: where tables and outbox are.
        extractors: of whose tables some are pushed.
        limits: what is still well.
        now: seconds since 1970.

    Raises:
        click.UsageError: there are no tables.
    """
    micros = int(now * 1e6)
    asked = Asked(micros - int(SINCE * 1e6), micros, micros, int(limits.grace * 1e6))
    answer, tables = ask(place, asked), opened(place)
    yield _missing(answer)
    yield from _freshness(answer, tables, now, limits.age)
    yield from _undelivered(tables, extractors, limits.undelivered)


def _missing(answer: Answer) -> Finding:
    wrong = [one for one in answer.standings if not one.balances]
    amount = sum(abs(one.account.missing) for one in wrong if one.account)
    judged = [one.account for one in answer.standings if one.account]
    served = sum(total(account.counts, "served") for account in judged)
    publishers = "1 publisher" if len(judged) == 1 else f"{len(judged):,} publishers"
    text = f"{amount:,} of {served:,} envelopes of {publishers} are missing"
    lines = [line for one in wrong for line in describe(one)]
    return Finding("missing", amount, "\n".join([text, *lines]), not wrong)


def _freshness(answer: Answer, tables: Destination, now: float, most: float) -> Iterator[Finding]:
    """Heartbeats come each minute without traffic, too. Of publishers without them: nothing."""
    last = max((one.last.time for one in answer.standings), default=0)
    if not last and not tables.size(HEARTBEATS)[0]:
        return
    age = max(0.0, now - last / 1e6) if last else SINCE
    text = f"the newest heartbeat in the tables is {age:,.0f} s old"
    yield Finding("freshness", round(age, 1), text, age <= most)


def _undelivered(tables: Destination, extractors: Extractors, most: float) -> Iterator[Finding]:
    names = sorted(table_of(item).name for item in extractors.values() if item.pushed)
    outbox = Outbox(tables.home)
    found = waiting(tables, outbox, names) if names else {}
    for name in names:
        entries = found.get(name, {})
        age = max(map(outbox.age, entries), default=0.0)
        text = f"{name}: {rows_of([entries]):,} rows wait for Arize"
        if entries:
            text += f", the oldest for {age:,.0f} s"
        yield Finding("undelivered", round(age, 1), text, age <= most, name)
