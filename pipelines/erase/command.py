"""What `weighbridge tables erase` does and prints."""

from __future__ import annotations

import pyarrow as pa
from rich.console import Console

from extractors import Extractor, Extractors
from pipelines.destination import Destination
from pipelines.erase.done import Erased
from pipelines.erase.find import find_rows
from pipelines.render import grid
from pipelines.tables import Tables


def erase_and_show(
    console: Console,
    tables: Destination,
    extractors: Extractors,
    model: str,
    where: str,
    dry_run: bool,
) -> bool:
    """Erase rows of a model and print a line for each table; whether nothing of them is left.

    Args:
        console: to print on.
        tables: where they are.
        extractors: those that are registered.
        model: id of the model.
        where: see `find_rows`.
        dry_run: only print how many rows are meant.

    Raises:
        ConfigurationError: the model, a column or the expression is none.
    """
    found = find_rows(tables, extractors, model, where)
    if dry_run:
        counts = grid("table", "rows", numbers=1)
        for name, (_, rows) in sorted(found.items()):
            counts.add_row(name, f"{rows.num_rows:,}")
        console.print(counts)
        console.print("nothing was changed")
        return True
    names = ("table", "rows erased", "not sent to Arize", "files written anew", "files deleted")
    all_done = [_erase(tables, name, *meant) for name, meant in found.items()]
    table, left = grid(*names, numbers=4), sum(done.left for done in all_done)
    for done in sorted(all_done, key=lambda done: done.table):
        numbers = (done.rows, done.unsent, done.files, done.deleted)
        table.add_row(done.table, *(f"{number:,}" for number in numbers))
    console.print(table)
    if left:
        console.print(
            f"files that still hold some of them: {left:,}. They are named by a tag or by "
            "unwritten/, or are younger than a day and not committed: call this again in a day",
            soft_wrap=True,
        )
    return not left


def _erase(tables: Destination, name: str, extractor: Extractor, rows: pa.Table) -> Erased:
    if isinstance(tables, Tables):
        from pipelines.erase.rows import erase_rows

        return erase_rows(tables, name, extractor, rows)
    from pipelines.bigquery.erase import delete_rows

    return delete_rows(tables, name, extractor, rows)
