"""`weighbridge arize`."""

from __future__ import annotations

import errno
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.commands.terminal import console, errors, opened, quiet_imports
from pipelines.options import PACKAGE
from pipelines.place import PLACE_PARAMETERS, Place

if TYPE_CHECKING:
    from extractors import Extractor, Extractors

_MODEL = click.Option(["--model"], metavar="ID", help="Only this model.")
_URL = click.Option(
    ["--arize_url"],
    default="",
    metavar="URL",
    help="Push to this address instead of Arize's own, e.g. a local receiver.",
)
_DAY = click.DateTime(["%Y-%m-%d"])
_SINCE = click.Option(
    ["--since"], type=_DAY, metavar="DAY", help="First day of event time, UTC: 2026-03-01."
)
_UNTIL = click.Option(
    ["--until"], type=_DAY, metavar="DAY", help="Last day of event time; it is sent, too."
)


@click.group()
def arize() -> None:
    """What was sent to Arize, and what is not sent by itself."""


@arize.command(params=[_MODEL, *PLACE_PARAMETERS, PACKAGE])
def status(model: str | None, extractors_package: str, **place: Any) -> None:
    """Did it arrive? Rows of each table by what became of them.

    Exit status: 0 nothing waits and nothing was refused, 1 something did, 2 wrong usage.
    """
    with quiet_imports():
        from pipelines.arrivals import arrivals
        from pipelines.render_arrivals import print_arrivals
    chosen = _chosen(extractors_package, model)
    found = arrivals(opened(Place.of(place)), chosen.values())
    print_arrivals(console, found, chosen)
    if any(item.waiting or item.refused for item in found):
        raise click.exceptions.Exit(1)


@arize.command(
    params=[
        click.Option(["--model"], metavar="ID", required=True, help="The model to push."),
        _SINCE,
        _UNTIL,
        click.Option(
            ["--again"],
            is_flag=True,
            help="Also what was delivered before: Arize will count it twice.",
        ),
        _URL,
        *PLACE_PARAMETERS,
        PACKAGE,
    ]
)
def push(
    model: str,
    since: datetime | None,
    until: datetime | None,
    again: bool,
    arize_url: str,
    extractors_package: str,
    **place: Any,
) -> None:
    """Send what the tables hold of a model and Arize was never sent.

    That is what waits in the outbox, and files that were committed without a push: with --no_arize,
    or while the model had arize="off". Exit status: 0 all was sent, 1 some of it waits in the
    outbox, 2 wrong usage or configuration.
    """
    with quiet_imports():
        from pipelines.arize import ArizeAccess
        from pipelines.config.options import environment
        from pipelines.push import Push
        from pipelines.render_arrivals import print_push
        from pipelines.requeue import requeue
        from pipelines.tables import table_of
    if since and until and since > until:
        raise click.UsageError("--since is after --until")
    chosen = _pushed(extractors_package, model)
    access = ArizeAccess(arize_url, tuple(environment().spaces.values()))
    access.check({item.settings.arize_space for item in chosen.values()})
    tables = opened(Place.of(place))
    tables.prepare([])
    days = (since and since.date(), until and until.date())
    # Predictions first: an actual is joined to what was received before.
    names = [table_of(item).name for _, item in sorted(chosen.items(), reverse=True)]
    queued = {name: requeue(tables, name, *days, again) for name in names}
    pushing = Push(tables.home, tables, chosen, access)
    pushed, denied = {}, False
    for name in names:
        pushed[name] = pushing.deliver(only={name})
        denied = denied or pushing.denied
    print_push(console, queued, pushed, again)
    left = pushing.pending_rows()
    if denied:
        raise click.ClickException("Arize refuses the key or a space; the rows wait in the outbox")
    if left:
        console.print(f"[yellow]waiting in the outbox: {left:,} rows; every run tries again[/]")
        raise click.exceptions.Exit(1)


@arize.command(
    params=[
        click.Option(["--model"], metavar="ID", required=True, help="The model it is for."),
        click.Option(
            ["--from", "source"],
            metavar="PARQUET|TABLE",
            required=True,
            help="A Parquet file; or the word table, for the model's own tables.",
        ),
        click.Option(
            ["--environment"],
            type=click.Choice(["training", "validation"]),
            default="training",
            show_default=True,
            help="What the set is.",
        ),
        click.Option(
            ["--batch_id"], default="", metavar="TEXT", help="Names a validation set; needed there."
        ),
        click.Option(
            ["--model_version"],
            default="",
            metavar="TEXT",
            help="The model's version; by default each row's column model_version.",
        ),
        _SINCE,
        _UNTIL,
        click.Option(["--dry_run"], is_flag=True, help="Check all rows; send none."),
        _URL,
        *PLACE_PARAMETERS,
        PACKAGE,
    ]
)
def baseline(
    model: str,
    source: str,
    environment: str,
    batch_id: str,
    model_version: str,
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    arize_url: str,
    extractors_package: str,
    **place: Any,
) -> None:
    """Send a training or validation set, which Arize compares production with.

    All rows are checked before one is sent. Sending a set again adds its rows once more. Exit
    status: 0 all was sent, 1 not all, 2 wrong usage, file or configuration.
    """
    with quiet_imports():
        from pipelines.arize import ArizeAccess, ArizeUnavailable
        from pipelines.baseline.send import BaselineOptions, BaselineSender
        from pipelines.baseline.shape import BaselineShape
        from pipelines.config import options as config
        from pipelines.render_arrivals import print_baseline
    if (environment == "validation") != bool(batch_id):
        raise click.UsageError("--batch_id names a validation set: give it there, and only there")
    file = None if source.lower() == "table" else Path(source)
    if file is not None and not file.is_file():
        raise click.UsageError(f"--from: there is no file {source}; or write table")
    if file is not None and (since or until):
        raise click.UsageError("--since and --until are for --from table; a file is sent whole")
    chosen = _pushed(extractors_package, model)
    access = ArizeAccess(arize_url, tuple(config.environment().spaces.values()))
    if not dry_run:
        access.check({item.settings.arize_space for item in chosen.values()})
    shape = BaselineShape.of(chosen, model)
    tables = opened(Place.of(place)) if file is None else Place.of(place).open()
    days = (since and since.date(), until and until.date())
    options = BaselineOptions(file, environment, batch_id, model_version, *days)
    sender = BaselineSender(shape, options, tables)
    sender.check()
    if not dry_run:
        tables.prepare([])
        try:
            sender.send(access)
        except ArizeUnavailable as error:
            print_baseline(console, sender.report, dry_run)
            errors.print(
                f"Error: not all was sent: {error}; sent again, rows that were taken count twice",
                markup=False,
                soft_wrap=True,
            )
            raise click.exceptions.Exit(1) from None
    print_baseline(console, sender.report, dry_run)
    if sender.report.sent.refused:
        raise click.exceptions.Exit(1)


@arize.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="a free one",
    help="Where to listen.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="in memory",
    help="Keep uploads here.",
)
@click.option("--api_key", show_default="any", help="The only key to accept.")
@click.option("--space_id", show_default="any", help="The only space to accept.")
def receiver(port: int, folder: Path | None, api_key: str | None, space_id: str | None) -> None:
    """Run a local stand-in for Arize, until Ctrl-C: what --arize_url can name."""
    from pipelines.receiver import serve

    try:
        serve(port, folder, api_key, space_id)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise click.UsageError(f"--port: {port} is taken, or not yours to take") from None


def _chosen(package: str, model: str | None) -> Extractors:
    from pipelines.config.options import load_models

    extractors = load_models(package)
    chosen = {key: item for key, item in extractors.items() if model in (None, item.model_id)}
    if not chosen:
        known = ", ".join(sorted({model_id for model_id, _ in extractors}))
        raise click.UsageError(f"no model {model} is registered in {package}: {known}")
    return chosen


def _pushed(package: str, model: str) -> Extractors:
    chosen = _chosen(package, model)
    for item in chosen.values():
        if not item.pushed:
            raise click.UsageError(_why_not(item))
    return chosen


def _why_not(item: Extractor) -> str:
    if item.model_type == "untyped":
        return f'{item.model_id} has model_type="untyped": Arize takes rows of the other types only'
    return f'{item.model_id} has arize="off" in its settings; set arize="push" first'
