"""Names in BigQuery: of the dataset, the bucket, tables and views. Imports no client."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipelines.ledger import PLATFORM, SCHEMAS
from pipelines.tables import MODELS
from schemas import ConfigurationError

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")


class Dataset(NamedTuple):
    """A dataset, and the project that its jobs run in."""

    project: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Dataset:
        """The parts of PROJECT.DATASET, whose form `--dataset` has checked."""
        project, _, name = text.rpartition(".")
        return cls(project, name)

    def __str__(self) -> str:
        return f"{self.project}.{self.name}"

    def table(self, name: str) -> str:
        """Full id of the table or view that a table of ours is, such as `models.scores`."""
        return f"{self}.{table_id(name)}"


def table_id(name: str) -> str:
    """Name in the dataset: without `models.`, and `weighbridge_` for the platform's own."""
    return name.removeprefix(f"{MODELS}.").replace(".", "_")


def table_name(found: str) -> str:
    """Full name of the table that has an id in the dataset: the inverse of `table_id`."""
    short = found.removeprefix(f"{PLATFORM}_")
    return f"{MODELS}.{found}" if short == found else f"{PLATFORM}.{short}"


def view_id(name: str) -> str:
    """Name of the view that shows each row of a table once, that of its first version."""
    return f"{table_id(name)}_latest"


def joined_id(name: str) -> str:
    """Name of the view that shows predictions with their actuals."""
    return f"{table_id(name)}_joined"


def check_names(models: Iterable[Sequence[str]]) -> None:
    """Refuse tables whose names meet in one dataset.

    Args:
        models: full names of each model's tables, its first version first.

    Raises:
        ConfigurationError: two of them are one to BigQuery, or a table is another one's view.
    """
    taken: dict[str, str] = {}
    for first, *later in sorted([[name] for name in SCHEMAS] + [list(names) for names in models]):
        name = later[-1] if later else first
        for found in (table_id(name), view_id(first), joined_id(first)):
            other = taken.setdefault(found.lower(), name)
            if other != name:
                raise ConfigurationError(
                    f"tables {other} and {name} would both need {found} in the dataset, where "
                    f"{PLATFORM}_, _latest and _joined are ours; give one of the models another id"
                )


def check_columns(table: str, columns: Iterable[str]) -> None:
    """Refuse columns that BigQuery cannot hold.

    Raises:
        ConfigurationError: a name that it does not take, or two that differ by case only.
    """
    seen: dict[str, str] = {}
    for column in columns:
        if not _COLUMN.fullmatch(column):
            raise ConfigurationError(
                f"table {table}: column {column}: BigQuery takes letters, digits and _ in the name "
                "of a column, at most 300; rename it in the row class"
            )
        other = seen.setdefault(column.lower(), column)
        if other != column:
            raise ConfigurationError(
                f"table {table}: columns {other} and {column} are one to BigQuery; rename one of "
                "them in the row class"
            )
