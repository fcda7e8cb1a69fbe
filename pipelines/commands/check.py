"""`weighbridge check`."""

from __future__ import annotations

import logging
import time
from typing import Any

import click

from pipelines.commands.terminal import console, quiet_imports
from pipelines.logs import is_json, log
from pipelines.options import PACKAGE
from pipelines.place import PLACE_PARAMETERS, Place
from pipelines.units import Duration

UNWELL = 3
"""Exit status when something is not as it should be."""
PARAMETERS: list[click.Parameter] = [
    click.Option(
        ["--grace"],
        type=Duration(),
        default="10m",
        show_default=True,
        help="What was served less long ago may still be on its way.",
    ),
    click.Option(
        ["--max_undelivered"],
        type=Duration(),
        default="1h",
        show_default=True,
        help="How long rows may wait for Arize.",
    ),
    click.Option(
        ["--max_age"],
        type=Duration(),
        default="20m",
        show_default=True,
        help="How old the newest heartbeat in the tables may be.",
    ),
    PACKAGE,
    *PLACE_PARAMETERS,
]


def _check(
    grace: float, max_undelivered: float, max_age: float, extractors_package: str, **place: Any
) -> int:
    """Say whether all is well, a line for each number that an alert may look at.

    The ledger, rows that wait for Arize, and the age of the newest heartbeat. It changes nothing,
    and needs no right to. Exit status: 0 all is well, 3 something is not.
    """
    with quiet_imports():
        from pipelines.check import Limits, findings
        from pipelines.config.options import load_models
    limits = Limits(grace, max_undelivered, max_age)
    well = True
    for found in findings(Place.of(place), load_models(extractors_package), limits, time.time()):
        well = well and found.well
        if is_json():
            log.setLevel(logging.INFO)
            level = logging.INFO if found.well else logging.ERROR
            log.log(level, found.text, extra=found.fields())
        else:
            said = f"{'ok' if found.well else 'WRONG'}: {found.text}"
            console.print(said, markup=False, soft_wrap=True)
    return 0 if well else UNWELL


check = click.Command("check", callback=_check, params=PARAMETERS, help=_check.__doc__)
