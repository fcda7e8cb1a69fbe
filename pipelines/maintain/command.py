"""What `weighbridge tables maintain` does and prints."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

from rich.console import Console

from extractors import Extractors
from pipelines.destination import Destination
from pipelines.ledger import PLATFORM
from pipelines.logs import about, log
from pipelines.maintain.retain import retentions
from pipelines.maintain.sweep import sweep_unfinished
from pipelines.maintain.upkeep import Done, Upkeep, lock_of
from pipelines.render import grid
from pipelines.store import Store
from pipelines.tables import MODELS, Tables, tables_of


def maintain_tables(
    console: Console,
    tables: Tables,
    extractors: Extractors,
    models: Collection[str],
    retain: timedelta | None,
    dry_run: bool,
) -> bool:
    """Maintain tables and print a line for each; whether all of them were.

    Args:
        console: to print on.
        tables: where they are.
        extractors: whose settings say how long rows are kept.
        models: whose tables; none for all tables.
        retain: how long rows are kept of models that do not say.
        dry_run: only print what would be done.
    """
    names = tables_to_maintain(tables, extractors, models)
    upkeep, good, found = Upkeep(tables, keeping(names, extractors, retain)), True, []
    store = Store(tables.home)
    for name in names:
        try:
            with store.locked(lock_of(name)):  # a follower may be at it
                found.append(upkeep.run(name, dry_run))
        except Exception as error:  # the other tables need it no less
            good = False
            # Not the error's text: it may quote rows.
            what = type(error).__name__
            log.error("%s: maintenance failed with %s", name, what, extra=about(name))
    unfinished = 0 if models else sweep_unfinished(store, dry_run=dry_run)
    _print(console, found, dry_run)
    if unfinished:
        console.print(f"half-written files deleted: {unfinished:,}")
    return good


def tables_to_maintain(
    tables: Destination, extractors: Extractors, models: Collection[str]
) -> list[str]:
    """Full names of the tables of these models; of no models: all, and the platform's own."""
    present = [*tables.names(MODELS), *tables.names(PLATFORM)]
    if not models:
        return present
    chosen = [item for item in extractors.values() if item.model_id in models]
    wanted = {name for item in chosen for name in tables_of(item)}
    return [name for name in present if name in wanted]


def keeping(
    names: Collection[str], extractors: Extractors, retain: timedelta | None
) -> Mapping[str, timedelta]:
    """How long rows are kept, by full name of table; what models say of theirs comes first."""
    others = {} if retain is None else dict.fromkeys(names, retain)
    return {**others, **retentions(extractors)}


def _print(console: Console, found: list[Done], dry_run: bool) -> None:
    names = ("table", "files", "size", "duplicates", "days dropped", "files deleted")
    table = grid(*names, numbers=5)
    for done in found:
        table.add_row(
            done.table,
            _change(f"{done.files_before:,}", f"{done.files:,}"),
            _change(_size(done.bytes_before), _size(done.bytes_before if dry_run else done.bytes)),
            "-" if dry_run else f"{done.duplicates:,}",
            f"{done.days:,}",
            f"{done.swept:,}",
        )
    console.print(table)
    for done in found:
        if not done.compacted:
            console.print(f"{done.table} has delete files of another program, and is not compacted")
    if dry_run:
        console.print("nothing was changed; how much smaller it would be is not known before")


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"


def _size(number: int) -> str:
    return f"{number / 1e3:,.0f} kB" if number < 1e6 else f"{number / 1e6:,.1f} MB"
