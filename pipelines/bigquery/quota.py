"""How often tables may be loaded: what BigQuery allows a day, against models and intervals."""

from __future__ import annotations

from math import ceil

from schemas import ConfigurationError

LOADS_PER_TABLE = 1_500
"""A day; a fixed limit. Failed jobs count, too."""
LOADS_PER_PROJECT = 100_000
USABLE = 0.9
"""The share that is planned with; the rest is for jobs that fail and for what else is loaded."""
_DAY = 86_400


def shortest_interval(tables: int) -> int:
    """Seconds from commit to commit that so many tables must keep at least."""
    per_table = _DAY / (USABLE * LOADS_PER_TABLE)
    per_project = tables * _DAY / (USABLE * LOADS_PER_PROJECT)
    return ceil(max(per_table, per_project))


def check_interval(interval: float, tables: int) -> None:
    """Refuse an interval at which the day's load jobs would not last.

    Raises:
        ConfigurationError: it is too short, with the shortest one that fits.
    """
    shortest = shortest_interval(tables)
    if interval >= shortest:
        return
    jobs = f"{round(tables * _DAY / interval):,}" if interval else "countless"
    raise ConfigurationError(
        f"--commit_interval {interval:g}s with {tables} tables is {jobs} load jobs a day, and "
        f"BigQuery takes {LOADS_PER_TABLE:,} for a table and {LOADS_PER_PROJECT:,} for a project; "
        f"use --commit_interval {shortest}s or longer"
    )
