"""`weighbridge ledger`."""

from __future__ import annotations

import time
from typing import Any

import click

from pipelines.commands.terminal import console, quiet_imports
from pipelines.moments import Moment, check_span
from pipelines.options import PACKAGE
from pipelines.place import PLACE_PARAMETERS, Place
from pipelines.units import Duration

UNBALANCED = 3
"""Exit status of `--check` when envelopes are missing."""
PARAMETERS: list[click.Parameter] = [
    click.Option(["--model"], default="", metavar="ID", help="Of this model only."),
    click.Option(
        ["--since"],
        type=Moment(),
        default="1d",
        show_default=True,
        help="Published since: 2026-11-24, 2026-11-24T06:00:00Z, or 6h, 2d for as long ago.",
    ),
    click.Option(
        ["--until"], type=Moment(), help="Published before; times as of --since.  [default: now]"
    ),
    click.Option(
        ["--by"],
        type=click.Choice(["model", "publisher", "hour"]),
        default="model",
        show_default=True,
        help="What a line stands for.",
    ),
    click.Option(
        ["--check"], is_flag=True, help="Only say what does not balance; exit status 3 if so."
    ),
    click.Option(
        ["--grace"],
        type=Duration(),
        default="10m",
        show_default=True,
        help="What was served less long ago may still be on its way.",
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="For machines: all there is."),
    PACKAGE,
    *PLACE_PARAMETERS,
]


def _ledger(
    model: str,
    since: int,
    until: int | None,
    by: str,
    check: bool,
    grace: float,
    as_json: bool,
    extractors_package: str,
    **parameters: Any,
) -> int:
    """Show what became of each envelope that was served, by query over the tables."""
    check_span(since, until)
    with quiet_imports():
        from extractors import load_extractors
        from pipelines.books.command import Asked, ask, print_all, print_check
        from pipelines.books.show import as_json as to_json
    now = time.time_ns() // 1000
    asked = Asked(since, now if until is None else until, now, int(grace * 1e6), model)
    answer = ask(Place.of(parameters), asked, {} if check else load_extractors(extractors_package))
    if as_json:
        click.echo(to_json(*answer))
    elif check:
        print_check(console, answer)
    else:
        print_all(console, answer, by)
    return 0 if answer.balances or not check else UNBALANCED


ledger = click.Command("ledger", callback=_ledger, params=PARAMETERS, help=_ledger.__doc__)
