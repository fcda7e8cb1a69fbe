"""What `weighbridge ledger` asks and prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Console

from extractors import Extractors
from pipelines.books import facts, show
from pipelines.books.balance import Books, Key, missing, total
from pipelines.books.beats import Counts
from pipelines.books.differences import Standing, standings
from pipelines.books.read import read_entries
from pipelines.commands.terminal import opened
from pipelines.place import Place


@dataclass(frozen=True)
class Asked:
    """What is asked for. Times in microseconds since 1970, UTC.

    Attributes:
        since: what was published from then on.
        until: and before then.
        now: the moment of asking.
        grace: microseconds for which what was served may be on its way.
        model: only this one, "" for all.
    """

    since: int
    until: int
    now: int
    grace: int
    model: str = ""


class Answer(NamedTuple):
    """What the tables say."""

    books: Books
    standings: list[Standing]
    duplicates: dict[str, dict[int, int]]
    pushed: dict[str, facts.Pushed]
    costs: dict[str, facts.Cost]
    fresh: dict[str, facts.Fresh]

    @property
    def balances(self) -> bool:
        """Whether nothing is missing that should have arrived."""
        return all(one.balances for one in self.standings)


def ask(place: Place, asked: Asked, extractors: Extractors | None = None) -> Answer:
    """Read the tables.

    Args:
        place: where they are.
        asked: the time and the model.
        extractors: name owners; without them costs and freshness are left out.

    Raises:
        click.UsageError: there are no tables.
    """
    tables = opened(place)
    since, until, model = asked.since, asked.until, asked.model
    entries = read_entries(tables, since, until)
    held = [one for one in entries.held if model in ("", one.model)]
    books = entries.keeper.books(since, until)
    found = standings(entries.keeper, entries.beats, since, until, asked.now, asked.grace)
    if model:
        books = Books(_of_model(books.lines, model), _of_model(books.foreign, model))
        found = [one for one in found if _concerns(one, model)]
    twice = facts.duplicates(tables, held, since, until)
    pushed = facts.pushed(tables, held, since, until)
    if model:
        pushed = {name: one for name, one in pushed.items() if name == model}
    if not extractors:
        return Answer(books, found, twice, pushed, {}, {})
    costs = facts.costs(tables, held, extractors, since, until)
    return Answer(books, found, twice, pushed, costs, facts.freshness(tables, held, until))


def print_all(console: Console, answer: Answer, by: str) -> None:
    """The ledger."""
    show.print_books(console, answer.books, by)
    show.print_duplicates(console, answer.duplicates)
    show.print_standings(console, answer.standings)
    show.print_pushed(console, answer.pushed)
    show.print_costs(console, answer.costs)
    show.print_freshness(console, answer.fresh)


def print_check(console: Console, answer: Answer) -> None:
    """What does not balance, or that all does."""
    wrong = show.print_standings(console, answer.standings)
    judged = [one.account.counts for one in answer.standings if one.account]
    served = sum(total(counts, "served") for counts in judged)
    publishers = "1 publisher" if len(judged) == 1 else f"{len(judged):,} publishers"
    young = len(answer.standings) - len(judged)
    not_yet = f"; {young:,} within the time of --grace, not judged yet" if young else ""
    verdict = f"does not balance: {wrong:,} of" if wrong else "balances:"
    console.print(f"{verdict} {publishers}, {served:,} envelopes served{not_yet}", soft_wrap=True)


def _of_model(lines: dict[Key, Counts], model: str) -> dict[Key, Counts]:
    return {key: counts for key, counts in lines.items() if key[1] == model}


def _concerns(one: Standing, model: str) -> bool:
    if model not in one.last.models:
        return False
    return one.balances or one.account is None or missing(one.account.models[model]) != 0
