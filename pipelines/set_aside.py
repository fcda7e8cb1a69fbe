"""What is said of quarantined models, and how they are let back in by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from rich.console import Console

from extractors import Extractors
from pipelines.address import Folder
from pipelines.quarantine import Record, records, release
from pipelines.store import Store


def print_quarantined(console: Console, home: Folder) -> None:
    """A line for each table whose model is quarantined: since when, why, and when it is tried."""
    for record in records(Store(home)):
        if record.cause:
            tried = (
                "never tried again by itself"
                if record.probe_at is None
                else f"a sample is tried from {_moment(record.probe_at)} on"
            )
            console.print(f"{_said(record)}; {tried}", style="yellow", soft_wrap=True, markup=False)


def release_and_show(console: Console, home: Folder, extractors: Extractors, model: str) -> None:
    """Let a model back in, and say what to do with what was parked meanwhile.

    Raises:
        click.UsageError: no such model is registered.
    """
    tables = [item.table for item in extractors.values() if item.model_id == model]
    if not tables:
        known = ", ".join(sorted({model_id for model_id, _ in extractors}))
        raise click.UsageError(f"--release: no model {model} is registered: {known}")
    found = release(Store(home), tables)
    for record in found:
        console.print(f"let back in: {_said(record)}", soft_wrap=True, markup=False)
    if found:
        console.print(
            f"what was parked meanwhile: weighbridge replay --parked --model {model}",
            soft_wrap=True,
            markup=False,
        )
    else:
        console.print(f"{model} is not quarantined", markup=False)


def _said(record: Record) -> str:
    return f"{record.table}, quarantined since {_moment(record.since)}: {record.cause}"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
