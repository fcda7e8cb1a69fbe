"""`weighbridge demo`: real flights through a service, the pipeline, the tables and Arize."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipelines.console import ConsoleDisplay
from pipelines.demo.check import CHECKED, Summary, expected, summary
from pipelines.demo.flights import FlightData, load_flights
from pipelines.demo.traffic import capture
from pipelines.demo.training import Models, train
from pipelines.ledger import DELIVERIES
from pipelines.main import run
from pipelines.receiver import ArizeReceiver
from pipelines.render import grid
from pipelines.report import Report, TableReport
from pipelines.scan import counts_of
from pipelines.spaces import API_KEY, SPACE_ID
from pipelines.tables import MODELS, Tables

_PARTS = ("archive", "failures", "parked", "push", "receiver", "tables")
_UNREGISTERED = "gate-conflicts"


@dataclass(frozen=True)
class _Captured:
    """What was captured, kept beside the files, so that a second run can use them."""

    months: int
    today: str
    envelopes: int

    def write(self, folder: Path) -> None:
        (folder / "demo.json").write_text(json.dumps(self.__dict__))

    @classmethod
    def read(cls, folder: Path) -> _Captured | None:
        path = folder / "demo.json"
        return cls(**json.loads(path.read_text())) if path.exists() else None


def run_demo(console: Console, home: Path, months: int, fresh: bool) -> bool:
    """Run the demo and print what came of it.

    Args:
        console: where to print.
        home: the home folder; its capture is used again.
        months: calendar months of traffic.
        fresh: whether to forget what an earlier demo left in the home folder.

    Returns:
        Whether tables and receiver equal the source data.

    Raises:
        click.UsageError: the home holds another number of months.
    """
    if fresh:
        for part in _PARTS:
            shutil.rmtree(home / part, ignore_errors=True)
    folder = home / "archive" / "flights"
    found = _Captured.read(folder)
    if found is not None and found.months != months:
        raise click.UsageError(
            f"{folder} holds {found.months} month(s) of traffic; add --fresh for {months}"
        )
    started = time.monotonic()
    today = date.fromisoformat(found.today) if found else datetime.now(UTC).date()
    data = load_flights(today, months)
    models = train(data)
    console.print(
        f"Trained on the flights out of New York until {data.trained_until}; "
        f"{len(data.traffic):,} later ones are the traffic "
        f"[dim]({time.monotonic() - started:.1f} s)[/]"
    )
    if found:
        console.print(
            f"Found {found.envelopes:,} captured envelopes in {folder}; --fresh starts over"
        )
    else:
        found = _capture(console, data, models, folder, months, today)
    with _arize(console, home) as receiver:
        arguments = ["--input_files", str(folder / "*.avro"), "--home", str(home)]
        arguments += ["--arize_url", receiver.url] if receiver else []
        arguments += ["--config", os.devnull, "--env", ""]
        report = run(arguments, ConsoleDisplay(console))
        return _print_result(console, home, report, expected(data, models), receiver, found)


def _capture(
    console: Console, data: FlightData, models: Models, folder: Path, months: int, today: date
) -> _Captured:
    # Hidden until complete: a capture that was killed half-way is made again, not read.
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*bar, console=console) as progress:
        task = progress.add_task("Requests to the model service", total=None)
        captured = capture(
            data,
            models,
            unfinished,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    result = _Captured(months, today.isoformat(), captured.envelopes)
    result.write(unfinished)
    unfinished.rename(folder)
    console.print(
        f"Captured {captured.envelopes:,} envelopes from {captured.requests:,} requests "
        f"[dim]({captured.seconds:.1f} s, {captured.requests / captured.seconds:,.0f}/s)[/]"
    )
    return result


@contextmanager
def _arize(console: Console, home: Path) -> Iterator[ArizeReceiver | None]:
    """Arize itself where key and space are set, else a receiver on this machine."""
    if os.environ.get(API_KEY) and os.environ.get(SPACE_ID):
        console.print("Pushing to Arize, as its key and space are set")
        yield None
        return
    keys = {API_KEY: "demo-key", SPACE_ID: "demo-space"}
    before = {name: os.environ.get(name) for name in keys}
    os.environ.update(keys)
    try:
        with ArizeReceiver(*keys.values(), folder=home / "receiver") as receiver:
            console.print(
                f"Pushing to a local receiver that speaks Arize's protocol, {receiver.url}"
            )
            yield receiver
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _print_result(
    console: Console,
    home: Path,
    report: Report,
    wanted: dict[str, Summary],
    receiver: ArizeReceiver | None,
    captured: _Captured,
) -> bool:
    columns = [_column(Tables(home), item, wanted[item.table], receiver) for item in report.tables]
    columns.append({"": _UNREGISTERED, "envelopes": report.parked, "parked": report.parked})
    table = grid("", *(str(column[""]) for column in columns), numbers=len(columns))
    for name in list(columns[0])[1:]:
        table.add_row(name, *(_cell(column.get(name, "-")) for column in columns))
    console.print(table)
    console.print(f"{_UNREGISTERED} is parked: nobody has registered it yet; see {home / 'parked'}")
    rate = captured.envelopes / report.seconds
    console.print(
        f"Pipeline: {report.seconds:.1f} s for {captured.envelopes:,} envelopes ({rate:,.0f}/s), "
        "commits and push included"
    )
    console.print(f"Look around: weighbridge tables show flight-delay --home {home}")
    equal = all(value is not False for column in columns for value in column.values())
    return equal and not report.failures


def _column(
    tables: Tables, item: TableReport, wanted: Summary, receiver: ArizeReceiver | None
) -> dict[str, object]:
    stored = tables.load(f"{MODELS}.{item.table}")
    rows = summary(item.table, stored.scan(selected_fields=CHECKED[item.table]).to_arrow())
    column: dict[str, object] = {
        "": item.model_id if item.kind == "prediction" else f"{item.model_id}\nactuals",
        "envelopes": item.envelopes,
        "rows": rows.rows,
        "of these new": item.rows,
        "dead letters": sum(item.failures.values()),
        "parked": 0,
        "partitions": counts_of(stored).partitions,
        "pushed now": item.pushed,
        "uploads ever": _uploads(tables)[f"{MODELS}.{item.table}"],
        "table": rows == wanted,
    }
    if receiver is not None:
        received = _received(receiver, item.model_id, item.table)
        column["receiver"] = received == wanted
    return column


def _cell(value: object) -> str:
    if isinstance(value, bool):
        # Same count, and same checksum over all rows.
        return "[green]= source[/]" if value else "[red]DIFFERS[/]"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _uploads(tables: Tables) -> Counter[str]:
    delivered = tables.load(DELIVERIES).scan(selected_fields=("table_name", "attempts")).to_arrow()
    counts: Counter[str] = Counter()
    for row in delivered.to_pylist():
        counts[row["table_name"]] += row["attempts"] or 0
    return counts


def _received(receiver: ArizeReceiver, model_id: str, table: str) -> Summary | None:
    actuals = table.endswith("_actuals")
    parts: list[Any] = [
        upload.table
        for upload in receiver.uploads
        if upload.model_id == model_id and ("actual_label_column_name" in upload.columns) == actuals
    ]
    if not parts:
        return None
    names = list(CHECKED[table])
    rows = pa.concat_tables([part.select(names) for part in parts], promote_options="permissive")
    return summary(table, rows)
