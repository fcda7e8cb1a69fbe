"""What commands print on, and the tables that they open."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from pipelines.place import Place

if TYPE_CHECKING:
    from pipelines.destination import Destination


class _Terminal(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """As of `Console`; a table that needs more room than there is is not cut off."""
        super().print(*objects, **{"crop": False, **options})


console = _Terminal(highlight=False)
errors = Console(stderr=True, highlight=False)


def opened(place: Place) -> Destination:
    """The tables of a place.

    Raises:
        click.UsageError: there are none.
    """
    if place.tables != "iceberg":
        return place.open()
    tables = place.iceberg()
    if tables.address.is_file:
        home = place.local_home("the default catalog")
        if not (home / "tables" / "catalog.db").exists():
            raise click.UsageError(
                f"{home} holds no tables yet; `weighbridge run --home {home}` makes some"
            )
    return tables


class quiet_imports:
    """Beam warns about every optional part that is not installed."""

    def __enter__(self) -> None:
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)
