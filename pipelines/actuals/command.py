"""`weighbridge actuals upload`: a file of late actuals to a topic or a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from extractors._registry import MODEL_ID
from pipelines.actuals.delivery import Delivery, UndeliveredError
from pipelines.actuals.payload import EventTimes, payload
from pipelines.actuals.records import CsvForm, Records, open_records
from pipelines.actuals.upload import Actuals, check, now, upload
from schemas import ConfigurationError

FUTURE_MICROS = 600 * 1_000_000
"""How far ahead an event may lie, as the pipeline has it."""


@dataclass(frozen=True)
class UploadOptions:
    """What is uploaded, and as what; see `weighbridge actuals upload --help`."""

    file: Path
    model: str
    destination: str
    format: str | None
    event_time: str
    time_zone: str
    time_unit: str | None
    sampling_key: str
    model_version: str
    as_text: tuple[str, ...]
    delimiter: str
    retry_for: float
    dry_run: bool


def run_upload(console: Console, options: UploadOptions) -> None:
    """Check the whole file, then send it.

    Args:
        console: where to print.
        options: what the command line says.

    Raises:
        ConfigurationError: an option or a record is wrong; nothing was sent.
        UndeliveredError: some of it could not be delivered.
    """
    started = time.monotonic()
    if not options.destination and not options.dry_run:
        raise click.UsageError(
            "--destination is missing: name a topic, projects/P/topics/T, or a folder; or set "
            "WEIGHBRIDGE_DESTINATION"
        )
    if not MODEL_ID.fullmatch(options.model):
        raise click.UsageError(f"--model: {options.model} is no model id: {MODEL_ID.pattern}")
    delimiter = {"": ",", "\\t": "\t"}.get(options.delimiter, options.delimiter)
    if len(delimiter) > 1:
        raise click.UsageError("--delimiter: it is one character, or \\t for a tab")
    csv = CsvForm(delimiter, options.as_text)
    given = bool(options.as_text or options.delimiter)
    records = open_records(options.file, options.format or "", csv if given else None)
    actuals = _actuals(options, records)
    with _bar(console, "Checking") as progress:
        read, kept = check(records, actuals, progress)
    if not options.event_time:
        console.print(
            f"Event time of all: {_text(actuals.times.otherwise)}, when {options.file} was "
            "written; --event_time names a column instead",
            markup=False,
            soft_wrap=True,
        )
    if options.dry_run:
        _show_first(console, records, read, kept)
        return
    sampled = f", {read - kept:,} are sampled out" if read > kept else ""
    with _delivery(options) as delivery, _bar(console, "Sending") as progress:
        try:
            upload(records, actuals, delivery, progress)
        except UndeliveredError as error:
            raise UndeliveredError(
                f"{delivery.delivered:,} of {kept:,} actuals were delivered: {error}. The same "
                "command sends the rest, and doubles nothing"
            ) from None
    seconds = time.monotonic() - started
    console.print(
        f"{kept:,} actuals of {options.model} are in {options.destination}{sampled} "
        f"({seconds:.1f} s)",
        markup=False,
        soft_wrap=True,
    )


def _delivery(options: UploadOptions) -> Delivery:
    try:
        return Delivery(options.destination, options.retry_for)
    except ValueError as error:
        raise click.UsageError(f"--destination: {error}") from None
    except OSError as error:
        raise click.UsageError(
            f"--destination: {options.destination} cannot be made: {error.strerror}"
        ) from None


def _actuals(options: UploadOptions, records: Records) -> Actuals:
    for flag in ("event_time", "sampling_key"):
        name = getattr(options, flag)
        if name and name not in records.columns:
            raise ConfigurationError(
                f"--{flag}: {options.file} has no column {name}; it has "
                f"{', '.join(records.columns)}"
            )
    for flag in ("time_zone", "time_unit"):
        if getattr(options, flag) and not options.event_time:
            raise click.UsageError(f"--{flag} is for a column that --event_time names")
    latest = now() + FUTURE_MICROS
    written = options.file.stat().st_mtime_ns // 1000
    if not options.event_time and written > latest:
        raise ConfigurationError(
            f"{options.file} was written in the future, by its date; name a column with "
            "--event_time, or `touch` the file"
        )
    times = EventTimes(
        options.event_time, written, _zone(options.time_zone), options.time_unit or "", latest
    )
    try:
        return Actuals(options.model, options.model_version, times, options.sampling_key)
    except ValueError as error:  # of the sampling rates
        raise ConfigurationError(str(error)) from None


def _zone(name: str) -> tzinfo | None:
    if not name or name.upper() in ("UTC", "Z"):
        return UTC if name else None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise click.UsageError(
            f"--time_zone: there is no zone {name}; write UTC, or one such as Europe/Oslo"
        ) from None


def _show_first(console: Console, records: Records, read: int, kept: int) -> None:
    console.print(f"{read:,} records, {kept:,} to be sent; nothing was")
    for chunk, _ in records.chunks():
        if chunk:
            console.print(
                "The first one is", payload(chunk[0], 1).decode(), markup=False, soft_wrap=True
            )
            return


def _text(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="seconds")


@contextmanager
def _bar(console: Console, text: str) -> Iterator[_Progress]:
    columns = (TextColumn(text), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    off = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off) as progress:
        yield _Progress(progress)


class _Progress:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)
