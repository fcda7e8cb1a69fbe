"""What commands print on, and the tables that they open."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from rich.console import Console

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def opened(home: Path) -> Any:
    """The Iceberg tables of a home.

    Raises:
        click.UsageError: it has none yet.
    """
    from pipelines.tables import Tables

    if not (home / "tables" / "catalog.db").exists():
        raise click.UsageError(
            f"{home} holds no tables yet; `weighbridge run --home {home}` makes some"
        )
    return Tables(home)


class quiet_imports:
    """Beam warns about every optional part that is not installed."""

    def __enter__(self) -> None:
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)
