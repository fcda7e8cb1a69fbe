"""What the commands print."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from extractors import Extractor, Extractors
from extractors.testing import golden_cases
from pipelines.address import Folder
from pipelines.destination import Destination
from pipelines.joined import Labels
from pipelines.ledger import PLATFORM
from pipelines.reader import versions_of
from pipelines.report import Report
from pipelines.tables import MODELS

_NAME = 12


class Grid(Table):
    """A table in which, on a narrow terminal, a name may take two lines, and a number not.

    Where not even that fits it is wider than the terminal, and nothing of it is left out.
    """

    def add_row(self, *cells: RenderableType | None, **more: Any) -> None:
        """As of `Table`."""
        super().add_row(*cells, **more)
        for column, cell in zip(self.columns, cells):
            text = Text.from_markup(str(cell)).plain
            if column.width is not None:
                column.width = max(column.width, cell_len(text))
            else:
                longest = max(map(cell_len, text.split()), default=0)
                column.min_width = max(column.min_width or 0, min(longest, _NAME))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As of `Table`, with room for the narrowest that each column can be."""
        narrowest = sum(column.width or column.min_width or 0 for column in self.columns)
        gaps = 2 * len(self.columns)
        room = max(options.max_width, narrowest + gaps)
        yield from super().__rich_console__(console, options.update(max_width=room))


def grid(*columns: str, numbers: int = 0) -> Grid:
    """An empty table whose last `numbers` columns are aligned to the right."""
    table = Grid(box=SIMPLE, pad_edge=False, collapse_padding=True)
    for i, name in enumerate(columns):
        word = max(map(len, name.split()), default=0)
        if i < len(columns) - numbers:
            table.add_column(name, overflow="fold", min_width=word)
        else:
            table.add_column(name, justify="right", width=word)
    return table


def print_report(console: Console, report: Report, home: Folder) -> None:
    """Counts of a run per table, and where to look for what did not become rows."""
    names = ("table", "envelopes", "known", "rows added", "dead letters", "skipped", "pushed")
    table = grid(*names, numbers=6)
    for item in report.tables:
        table.add_row(
            item.table,
            f"{item.envelopes:,}",
            f"{item.known:,}",
            f"{item.rows:,}",
            f"{sum(item.failures.values()):,}",
            f"{item.skipped:,}",
            f"{item.pushed:,}",
        )
    console.print(table)
    if report.failures:
        stages = ", ".join(f"{count:,} {stage}" for stage, count in report.failures.items())
        console.print(f"dead letters: {stages}; {home / 'failures'}")
    if report.parked:
        console.print(
            f"parked, as nobody registered their model: {report.parked:,}; {home / 'parked'}"
        )
    set_aside = ", ".join(f"{t.quarantined:,} {t.table}" for t in report.tables if t.quarantined)
    if set_aside:
        console.print(
            f"[yellow]parked, as their model is quarantined: {set_aside}; {home / 'quarantine'}[/]",
            soft_wrap=True,
        )
    if report.files_damaged:
        console.print(f"[red]damaged files, named above: {report.files_damaged}[/]")
    if report.failing:
        console.print(
            f"[red]batches that fail, and stay in hand: {', '.join(report.failing)}[/]",
            soft_wrap=True,
        )
    if report.undelivered_rows:
        console.print(
            f"[yellow]undelivered to Arize: {report.undelivered_rows:,} rows; "
            "they are in the tables, and every run tries again[/]"
        )
    files = "1 file" if report.files == 1 else f"{report.files:,} files"
    console.print(f"{files} in {report.seconds:.1f} s")


def print_models(console: Console, extractors: Extractors, model: str | None) -> None:
    """Each registered extractor with its columns and roles."""
    for entry in _ordered(extractors, model):
        arize = f"Arize {entry.model_type}"
        if not entry.pushed:
            why = "untyped" if entry.model_type == "untyped" else 'arize="off"'
            arize = f"table only: {why}"
        owner = f", {entry.settings.owner}" if entry.settings.owner else ""
        title = f"{entry.model_id} ({entry.kind}) -> {MODELS}.{entry.table}, {arize}{owner}"
        console.print(title, style="bold", soft_wrap=True)
        table = grid("column", "type", "role", "description")
        for column in entry.shape().columns:
            null = " | null" if column.nullable else ""
            table.add_row(column.name, f"{column.type}{null}", str(column.role), column.description)
        console.print(table)


def check_golden(
    console: Console, extractors: Extractors, folder: Path, model: str | None, write: bool
) -> bool:
    """Compare (or write) the golden cases; true if all are as expected."""
    cases = [case for case in golden_cases(folder) if model in (None, case.model_id)]
    if not cases:
        raise click.UsageError(
            f"no golden case in {folder / (model or '*') / '*' / 'envelope.json'}; "
            "--golden names another folder"
        )
    good = True
    for case in cases:
        if write:
            case.write(extractors)
            console.print(f"wrote {case.folder / 'rows.json'}")
        elif found := case.differences(extractors):
            good = False
            console.print(f"[red]differs[/] {case.name}")
            for line in found:
                console.print(f"        {line}", markup=False, soft_wrap=True)
        else:
            console.print(f"[green]same[/]    {case.name}")
    if not good:
        console.print("if that is what you want, --write_golden writes it; review its diff")
    return good


def print_tables(console: Console, tables: Destination, extractors: Extractors) -> None:
    """Rows, partitions and snapshots of every table."""
    entries = extractors.values()
    registered = {name: entry for entry in entries for name in entry.tables}
    registered |= {entry.table: entry for entry in entries}
    table = grid("table", "model", "rows", "files", "partitions", "snapshots", numbers=4)
    names = [*tables.names(MODELS), *tables.names(PLATFORM)]
    for name, counts in zip(names, tables.counted(names)):
        entry = registered.get(name.partition(".")[2])
        numbers = ("-" if count is None else f"{count:,}" for count in counts)
        table.add_row(name, entry.model_id if entry else "-", *numbers)
    console.print(table)


def print_rows(console: Console, tables: Destination, model: str, actuals: bool, rows: int) -> None:
    """Some rows of one table, a column of text per row."""
    short = model.replace("-", "_") + ("_actuals" if actuals else "")
    names = versions_of(tables, f"{MODELS}.{short}", model)
    if f"{PLATFORM}.{short}" in (platform := tables.names(PLATFORM)):
        names = [f"{PLATFORM}.{short}"]
    if not names:
        known = [*tables.names(MODELS), *platform]
        listed = ", ".join(name.partition(".")[2] for name in known)
        raise click.UsageError(f"no table {short}; there are {listed}")
    found = tables.some(names[0], rows)
    console.print(names[0], style="bold")
    table = grid("column", *(f"row {i + 1}" for i in range(found.num_rows)))
    for name in found.column_names:
        table.add_row(name, *(_text(value) for value in found[name].to_pylist()))
    console.print(table)


def print_labels(console: Console, labels: Labels) -> None:
    """How labels came, in one line."""
    counts = asdict(labels)
    table = grid(*counts, numbers=len(counts))
    table.add_row(*(f"{count:,}" for count in counts.values()))
    console.print(table)


def _text(value: Any) -> str:
    if value is None:
        return "[dim]null[/]"
    return value.isoformat() if hasattr(value, "isoformat") else str(value).replace("[", r"\[")


def _ordered(extractors: Extractors, model: str | None) -> list[Extractor]:
    entries = [entry for entry in extractors.values() if model in (None, entry.model_id)]
    return sorted(entries, key=lambda entry: entry.table)
