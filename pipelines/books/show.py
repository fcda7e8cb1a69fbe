"""The ledger on a terminal, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.filesize import decimal

from pipelines.books.balance import Books, Key, missing, sum_of, total
from pipelines.books.beats import Counts
from pipelines.books.differences import Standing, describe, moment, since_last
from pipelines.books.facts import Cost, Fresh, Pushed
from pipelines.books.seen import HOUR
from pipelines.render import grid

_NUMBERS = {
    "served": "served",
    "sampled out": "sampled_out",
    "dropped": "dropped",
    "committed": "committed",
    "dead letters": "dead_letters",
    "parked": "parked",
    "skipped": "skipped",
}
_CAUSES = {"dropped": "dropped", "dead_letters": "dead letters", "skipped": "skipped"}
_PART = {"publisher": 0, "model": 1, "hour": 2}


def grouped(lines: dict[Key, Counts], by: str) -> dict[Any, Counts]:
    """Lines summed up by "publisher", "model" or "hour", in order."""
    groups: dict[Any, list[Counts]] = {}
    for key, counts in lines.items():
        groups.setdefault(key[_PART[by]], []).append(counts)
    return {name: sum_of(groups[name]) for name in sorted(groups)}


def print_books(console: Console, books: Books, by: str) -> None:
    """What became of what was served; then what nobody counted when it was."""
    if books.lines:
        table = grid(by, *_NUMBERS, "missing", numbers=len(_NUMBERS) + 1)
        groups, everything = grouped(books.lines, by), sum_of(books.lines.values())
        for name, counts in groups.items():
            table.add_row(_name(by, name), *_figures(counts), _missing(by, counts))
        if len(groups) > 1:
            table.add_section()
            table.add_row("all", *_figures(everything), f"{missing(everything):,}")
        console.print(table)
        if later := total(everything, "later"):
            console.print(f"newer than the last heartbeats, and here already: {later:,}")
        _print_causes(console, everything)
    if books.foreign:
        console.print("Without heartbeats (uploads, plain messages): nothing to weigh them against")
        names = [name for name in _NUMBERS if name in ("committed", "parked", "skipped")]
        names.insert(1, "dead letters")
        table = grid("model" if by == "publisher" else by, *names, numbers=len(names))
        for name, counts in grouped(books.foreign, "model" if by == "publisher" else by).items():
            figures = (f"{total(counts, _NUMBERS[column]):,}" for column in names)
            table.add_row(_name(by, name), *figures)
        console.print(table)
    if not books.lines and not books.foreign:
        console.print("nothing was published in this time")


def print_standings(console: Console, standings: Iterable[Standing]) -> int:
    """What does not balance, and how much of it there is."""
    found = 0
    for one in standings:
        lines = describe(one)
        found += bool(lines)
        for line, style in zip(lines, ("red", "")):
            console.print(line, style=style, soft_wrap=True, markup=False)
        if silent := since_last(one):
            console.print(silent, style="yellow", soft_wrap=True, markup=False)
    return found


def print_duplicates(console: Console, duplicates: dict[str, dict[int, int]]) -> None:
    """Rows that compaction has removed."""
    if duplicates:
        told = (f"{sum(hours.values()):,} {model}" for model, hours in sorted(duplicates.items()))
        console.print(f"duplicate rows removed: {', '.join(told)}", soft_wrap=True, markup=False)


def print_pushed(console: Console, pushed: dict[str, Pushed]) -> None:
    """Rows that went to Arize."""
    if not pushed:
        return
    table = grid("to Arize, in rows", "pushed", "refused", "undelivered now", numbers=3)
    for model, one in sorted(pushed.items()):
        table.add_row(
            model,
            f"{one.outcomes['delivered']:,}",
            f"{one.outcomes['refused']:,}",
            f"{one.waiting:,}",
        )
    console.print(table)


def print_costs(console: Console, costs: dict[str, Cost]) -> None:
    """What models have cost, by owner."""
    names = ("envelopes", "received", "rows", "in tables", "extractor CPU")
    table = grid("owner", "models", *names, numbers=len(names) + 1)
    for owner, one in sorted(costs.items()):
        table.add_row(
            owner or "(nobody)",
            f"{len(one.models):,}",
            f"{one.envelopes:,}",
            decimal(one.message_bytes),
            f"{one.rows:,}",
            decimal(one.bytes),
            f"{one.cpu_us / 1e6:,.1f} s",
        )
    console.print(table)


def print_freshness(console: Console, fresh: dict[str, Fresh]) -> None:
    """How fresh tables are, and how their last full hour compares."""
    if not fresh:
        return
    names = (
        "last event",
        "to publish p50",
        "p99",
        "to commit p50",
        "p99",
        "last full hour",
        "7 days before",
    )
    table = grid("table", *names, numbers=len(names))
    for name, one in fresh.items():
        table.add_row(
            name.partition(".")[2],
            "-" if one.last_event is None else moment(one.last_event),
            *_delays(one.to_publish),
            *_delays(one.to_commit),
            f"{one.volume:,}",
            f"{min(one.before):,} to {max(one.before):,}",
        )
    console.print(table)


def as_json(
    books: Books,
    standings: list[Standing],
    duplicates: dict[str, dict[int, int]],
    pushed: dict[str, Pushed],
    costs: dict[str, Cost],
    fresh: dict[str, Fresh],
) -> str:
    """All of it, for machines: envelopes by publisher, model and hour."""
    return json.dumps(
        {
            "lines": [_line(key, counts) for key, counts in sorted(books.lines.items())],
            "without_heartbeats": [_line(k, counts) for k, counts in sorted(books.foreign.items())],
            "publishers": [_standing(one) for one in standings],
            "duplicate_rows_removed": [
                {"model": model, "hour": _hour(hour), "rows": rows}
                for model, hours in sorted(duplicates.items())
                for hour, rows in hours.items()
            ],
            "arize": {k: {**v.outcomes, "waiting": v.waiting} for k, v in sorted(pushed.items())},
            "costs": {k: {**vars(v), "models": sorted(v.models)} for k, v in sorted(costs.items())},
            "freshness": {name: vars(one) for name, one in fresh.items()},
        },
        indent=1,
    )


def _line(key: Key, counts: Counts) -> dict[str, Any]:
    publisher, model, hour = key
    found: dict[str, Any] = {
        "publisher": publisher,
        "model": model,
        "hour": _hour(hour),
    }
    for (column, why), count in sorted(counts.items()):
        if why:
            found.setdefault(column, {})[why] = count
        elif column not in ("spooled", "published"):
            found[column] = count
    return found


def _hour(hour: int) -> str:
    return datetime.fromtimestamp(hour * HOUR / 1e6, UTC).isoformat()


def _standing(one: Standing) -> dict[str, Any]:
    return {
        "publisher": one.publisher,
        "state": one.state.value,
        "last_heartbeat": moment(one.last.time),
        "served": total(one.account.counts, "served") if one.account else None,
        "missing": one.account.missing if one.account else None,
        "holes": one.account.holes if one.account and one.account.missing else [],
        "spooled": one.last.total["spooled", ""],
        "lost_since_last_heartbeat_at_most": one.lost_since,
        "balances": one.balances,
        "difference": describe(one),
    }


def _print_causes(console: Console, counts: Counts) -> None:
    for column, title in _CAUSES.items():
        causes = Counter({why: n for (name, why), n in counts.items() if name == column and n})
        if causes:
            told = ", ".join(f"{count:,} {why}" for why, count in causes.most_common())
            console.print(f"{title}: {told}", soft_wrap=True, markup=False)


def _figures(counts: Counts) -> list[str]:
    return [f"{total(counts, column):,}" for column in _NUMBERS.values()]


def _missing(by: str, counts: Counts) -> str:
    # Found in the hour of its event, and counted in that of a heartbeat.
    return "" if by == "hour" else f"{missing(counts):,}"


def _name(by: str, name: Any) -> str:
    return moment(name * HOUR) if by == "hour" else str(name) or "(others)"


def _delays(delays: tuple[float, float] | None) -> tuple[str, str]:
    return ("-", "-") if delays is None else (_seconds(delays[0]), _seconds(delays[1]))


def _seconds(seconds: float) -> str:
    for most, unit in ((120, "s"), (7200, "m"), (172_800, "h")):
        if abs(seconds) < most:
            size = {"s": 1, "m": 60, "h": 3600}[unit]
            return f"{max(0.0, seconds) / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"
