"""What `weighbridge compare` prints: counts and statistics, no values."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from extractors import Extractor, Extractors, load_extractors
from pipelines.compare.differences import (
    QUANTILES,
    ColumnChange,
    ColumnFigures,
    Differences,
    differences,
)
from pipelines.compare.revision import extracted_at, is_revision
from pipelines.compare.side import Side, extracted, stored
from pipelines.listing import match_files
from pipelines.options import RunOptions
from pipelines.render import grid
from pipelines.tables import Tables, table_of
from schemas import ConfigurationError
from weighbridge.wire import Kind


def run_and_show(
    console: Console, options: RunOptions, model: str, kind: Kind, against: str
) -> bool:
    """Compare today's extractor with what was before; whether there is no difference."""
    extractors = load_extractors(options.extractors_package)
    extractor = _chosen(extractors, model, kind, options.extractors_package)
    paths = [file.path for file in match_files(options.input_files, flag="--archive")]
    other = _other_side(options, extractor, against, paths)
    limits = options.max_future, options.max_envelope_bytes
    with console.status("extracting"):
        now = extracted("now", extractor, paths, *limits)
        before = other(now)
    found = differences(before, now)
    _print(console, before, now, found, extractor)
    return found.none


def _chosen(extractors: Extractors, model: str, kind: Kind, package: str) -> Extractor:
    found = extractors.get((model, kind))
    if found is None:
        known = ", ".join(sorted({model_id for model_id, each in extractors if each == kind}))
        raise ConfigurationError(f"--model: no {kind} extractor of {model} in {package}: {known}")
    return found


def _other_side(
    options: RunOptions, extractor: Extractor, against: str, paths: list[str]
) -> Callable[[Side], Side]:
    tables = options.open()
    if not isinstance(tables, Tables):
        raise ConfigurationError("compare reads Iceberg tables; or name a revision in --against")
    home = options.local_home("compare")
    own = table_of(extractor).name
    named = [own] if not against else [against, f"models.{against}"]
    table = next((name for name in named if name in tables.names()), "")
    if table:
        return lambda now: stored(tables, table, extractor, home, now)
    package = options.extractors_package
    if against and is_revision(package, against):
        key, limits = (extractor.model_id, extractor.kind), _limits(options)
        return lambda now: extracted_at(against, package, key, paths, *limits)
    if not against:
        raise ConfigurationError(f"there is no table {own} yet; name a revision in --against")
    raise ConfigurationError(f"--against: {against} is neither a table nor a revision of {package}")


def _limits(options: RunOptions) -> tuple[float, int]:
    return options.max_future, options.max_envelope_bytes


def _print(
    console: Console, before: Side, now: Side, found: Differences, extractor: Extractor
) -> None:
    title = f"{extractor.model_id} ({extractor.kind}): {before.name} -> {extractor.version} now"
    console.print(Text(title), style="bold", soft_wrap=True)
    table = grid("", "before", "now", numbers=2)
    table.add_row("rows", f"{before.rows.num_rows:,}", f"{now.rows.num_rows:,}")
    table.add_row("envelopes that fail", f"{len(before.failed):,}", f"{len(now.failed):,}")
    table.add_row("microseconds a row", _speed(before), _speed(now))
    console.print(table)
    console.print(
        f"rows: {found.same:,} same, {found.changed:,} changed, {found.added:,} added, "
        f"{found.gone:,} gone"
    )
    console.print(
        f"envelopes: {found.fails_now:,} fail only now, {found.failed_before:,} failed only "
        f"before, {found.fails_on_both:,} fail on both sides"
    )
    quantiles = [f"{q * 100:g} %" for q in QUANTILES]
    columns = grid("column", "null", "distinct", "mean", *quantiles, numbers=6)
    for column in found.columns:
        _add(columns, column)
    console.print(columns)


def _add(table: Table, column: ColumnChange) -> None:
    changed = f", {column.changed:,} changed" if column.changed else ""
    name = Text(f"{column.name}{changed}")
    if column.before == column.now:
        table.add_row(name, *_cells(column.now))
        return
    table.add_row(name)
    table.add_row("  before", *_cells(column.before))
    table.add_row("  now", *_cells(column.now))


def _cells(figures: ColumnFigures | None) -> list[str]:
    if figures is None:
        return ["none", "", "", *[""] * len(QUANTILES)]
    distinct = "" if figures.distinct is None else f"{figures.distinct:,}"
    mean = "" if figures.mean is None else f"{figures.mean:.4g}"
    quantiles = [f"{value:.4g}" for value in figures.quantiles] or [""] * len(QUANTILES)
    return [f"{figures.nulls:.1%}", distinct, mean, *quantiles]


def _speed(side: Side) -> str:
    if side.seconds is None or not side.rows.num_rows:
        return "-"
    return f"{side.seconds * 1e6 / side.rows.num_rows:.1f}"
