"""What `weighbridge replay` prints."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal

from extractors import Extractors
from pipelines.console import ConsoleDisplay
from pipelines.options import RunOptions
from pipelines.render import grid, print_report
from pipelines.replay.plan import Plan, Sources, make_plan
from pipelines.replay.preview import preview
from pipelines.replay.run import Replayed, replay
from pipelines.stored import FAILURES, PARKED
from schemas import ConfigurationError

_WHAT = {FAILURES: "dead letters", PARKED: "parked messages"}
_SAME = {FAILURES: "failed for the same cause again", PARKED: "are parked as before"}


def run_and_show(
    console: Console, options: RunOptions, sources: Sources, dry_run: bool, forked: bool = True
) -> None:
    """Run the sources again, or say what that would do.

    Args:
        console: takes the report.
        options: of the run.
        sources: what is run again.
        dry_run: whether nothing is run.
        forked: whether this process may be forked, as it has no threads yet.
    """
    extractors = options.load()
    _check_model(extractors, options)
    with console.status("looking for what is to be run again"):
        plan = make_plan(options.home, sources, options.selection)
    if not plan.files:
        if group := options.selection.group:
            raise click.UsageError(
                f"no dead letters of a group {group}; see `weighbridge failures`"
            )
        console.print("nothing to run again")
        return
    if dry_run:
        _print_preview(console, plan, extractors, options)
        return
    with ConsoleDisplay(console) as display:
        # Clients of object stores have threads by now.
        replayed = replay(options, plan, display, forked and isinstance(options.home, Path))
    print_report(console, replayed.report, options.home)
    _print_marks(console, replayed)
    if replayed.report.push_denied:
        raise click.ClickException(
            "Arize refuses the key or a space; the rows are in the tables, and wait in the outbox"
        )


def _check_model(extractors: Extractors, options: RunOptions) -> None:
    model, known = options.selection.model, {model_id for model_id, _ in extractors}
    if model and model not in known:
        raise ConfigurationError(
            f"--model: {model} is not registered in {options.extractors_package}, and its "
            "envelopes would be parked again; write its extractor first"
        )


def _print_preview(
    console: Console, plan: Plan, extractors: Extractors, options: RunOptions
) -> None:
    found = preview(plan, extractors, options)
    changed = "replaced" if options.rewrite else "left out"
    table = grid("table", "envelopes", f"in the table, {changed}", "not in the table", numbers=3)
    for name, entry in sorted(found.items()):
        held = "?" if entry.held is None else f"{entry.held:,}"
        rest = "?" if entry.held is None else f"{entry.envelopes - entry.held:,}"
        table.add_row(name or "(not registered: parked)", f"{entry.envelopes:,}", held, rest)
    if found:
        console.print(table)
    wanted = sum(map(len, plan.wanted.values()))
    stored = f", {wanted:,} stored messages in them" if wanted else ""
    files = "1 file" if len(plan.files) == 1 else f"{len(plan.files):,} files"
    console.print(f"would read {files}, {decimal(plan.size)}{stored}; nothing was changed")


def _print_marks(console: Console, replayed: Replayed) -> None:
    for folder, what in _WHAT.items():
        counted = replayed.outcomes[folder]
        if not counted.total:
            continue
        parts = [f"{counted.done:,} done"]
        if counted.other:
            parts.append(f"{counted.other:,} failed for another cause, and point at the first")
        if counted.same:
            parts.append(f"{counted.same:,} {_SAME[folder]}")
        console.print(f"{what}: {'; '.join(parts)}")
