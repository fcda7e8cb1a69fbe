"""What `weighbridge arize` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console

from extractors import Extractors
from pipelines.arrivals import Arrivals
from pipelines.baseline.send import BaselineReport
from pipelines.render import grid
from pipelines.tables import metrics_of, table_of
from pipelines.undelivered import Undelivered


def print_arrivals(console: Console, found: Sequence[Arrivals], extractors: Extractors) -> None:
    """A table of counts, and a line for each thing to know of a table."""
    pushed = {table_of(item).name: item.pushed for item in extractors.values()}
    names = ("table", "rows", "delivered", "waiting", "refused", "too late", "unsent")
    table = grid(*names, numbers=6)
    for item in found:
        counts = (item.committed, item.delivered, item.waiting, sum(item.refused.values()))
        more = (item.too_late, item.never_sent)
        table.add_row(metrics_of(item.table), *(f"{count:,}" for count in (*counts, *more)))
    console.print(table)
    for item in found:
        for line in _lines(item, pushed[item.table]):
            console.print(f"{metrics_of(item.table)}: {line}", markup=False, soft_wrap=True)


def print_push(
    console: Console,
    queued: Mapping[str, Undelivered],
    pushed: Mapping[str, Mapping[str, int]],
    again: bool,
) -> None:
    """What was found never sent, or is sent again; what was sent; and what nobody can tell."""
    for name, found in queued.items():
        short = metrics_of(name)
        sent = pushed[name].get(short, 0)
        fresh = sum(ref.rows for ref in found.files)
        which = "rows, sent before or not" if again else "rows were never sent"
        console.print(f"{short}: {fresh:,} {which}; {sent:,} rows pushed now")
        if found.unclear:
            days = sorted({_day(path.path) for path in found.unclear})
            console.print(
                f"{short}: not sent: rows of {', '.join(days)}, as some were delivered, and the "
                "files that say which were compacted with others or deleted. --again sends these "
                "days whole: give them by --since and --until",
                soft_wrap=True,
            )


def print_baseline(console: Console, report: BaselineReport, dry_run: bool) -> None:
    """What became of a training or validation set."""
    sent = "none was sent" if dry_run else f"{report.sent.rows:,} were sent"
    console.print(f"{report.rows:,} rows with predictions and actuals; {sent}")
    if report.unknown:
        console.print(f"columns that are not sent: {', '.join(report.unknown)}", markup=False)
    if report.without_actual:
        console.print(f"left out: {report.without_actual:,} predictions without an actual")
    if report.outside:
        console.print(f"left out: {report.outside:,} rows, older or newer than Arize takes")
    for row_id, reason in report.sent.refused[:5]:
        console.print(f"refused: {row_id}: {reason}", markup=False)
    if report.sent.possible_duplicates:
        console.print(f"up to {report.sent.possible_duplicates:,} rows may be in Arize twice")


def _lines(item: Arrivals, pushed: bool) -> list[str]:
    lines = []
    if not pushed:
        lines.append("table only")
    for reason, rows in item.refused.most_common():
        lines.append(f"refused {rows:,} rows: {reason}")
    if item.waiting:
        lines.append(f"the oldest waiting rows were committed {_span(item.waiting_seconds)} ago")
    if item.outside:
        lines.append(f"{item.outside:,} rows are older or newer than Arize takes")
    if item.too_late:
        lines.append(f"{item.too_late:,} actuals came after the look-back, and were not sent")
    if item.sampled_out:
        lines.append(f"{item.sampled_out:,} rows sampled out by arize_sample_rate")
    if item.possible_duplicates:
        lines.append(f"up to {item.possible_duplicates:,} rows may be in Arize twice")
    if item.last_delivery:
        lines.append(f"last delivery {item.last_delivery:%Y-%m-%dT%H:%M:%SZ}")
    if item.last_error and (not item.last_delivery or item.last_error[0] > item.last_delivery):
        time, error = item.last_error
        lines.append(f"last error {time:%Y-%m-%dT%H:%M:%SZ}: {error}")
    return lines


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _day(path: str) -> str:
    return path.rpartition("event_day=")[2].partition("/")[0]
