"""`weighbridge compare`."""

from __future__ import annotations

from typing import Any

import click

from pipelines.commands.terminal import console, quiet_imports
from pipelines.options import RUN_PARAMETERS, run_defaults, run_options
from pipelines.place import PLACE_PARAMETERS

_OF_RUN = {
    *(item.name for item in PLACE_PARAMETERS),
    *("extractors_package", "max_future", "max_envelope_bytes"),
}
PARAMETERS: list[click.Parameter] = [
    click.Option(["--model"], required=True, metavar="ID", help="The model."),
    click.Option(
        ["--archive"],
        required=True,
        metavar="GLOB",
        help="Captured traffic: archive files, ** for any depth; a folder means all in it.",
    ),
    click.Option(
        ["--against"],
        default="",
        metavar="TABLE|REV",
        help="Rows of another table, or the extractor at a git revision; default: its table.",
    ),
    click.Option(["--actuals"], is_flag=True, help="Its actuals instead of its predictions."),
    click.Option(["--check"], is_flag=True, help="Exit with 1 if there is a difference."),
    *(item for item in RUN_PARAMETERS if item.name in _OF_RUN),
]


def _compare(
    model: str, archive: str, against: str, actuals: bool, check: bool, **parameters: Any
) -> None:
    """Run today's extractor over captured traffic, write nothing, and compare.

    For the day a model changes its response shape: rows that are added, gone or changed, envelopes
    that fail now or failed before, and statistics of each column.
    """
    with quiet_imports():
        from pipelines.compare.show import run_and_show
    given = {**run_defaults(), **parameters, "input_files": archive, "no_arize": True}
    equal = run_and_show(
        console, run_options(given, ()), model, "actual" if actuals else "prediction", against
    )
    if check and not equal:
        raise click.exceptions.Exit(1)


compare = click.Command(
    "compare",
    callback=_compare,
    params=PARAMETERS,
    help=_compare.__doc__,
    short_help="Compare today's extractor with what was before.",
)
