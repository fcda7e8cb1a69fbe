"""Points in time as commands take them."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from weighbridge.plain import parse_rfc3339

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGO = re.compile(r"(\d+(?:\.\d+)?)(m|h|d)")
_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


class Moment(click.ParamType[int, str]):
    """A day, a time with offset, or how long ago; as microseconds since 1970, UTC."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        """Microseconds of a text; numbers stay what they are."""
        if isinstance(value, int):
            return value
        text = value.strip()
        if ago := _AGO.fullmatch(text):
            return int((time.time() - float(ago[1]) * _SECONDS[ago[2]]) * 1e6)
        try:
            if len(text) == 10:
                day = date.fromisoformat(text)
                return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 10**6
            return parse_rfc3339(text)
        except ValueError:
            self.fail(
                f"{value!r} is no time; write 2026-11-24, 2026-11-24T06:00:00Z, or 6h for as long "
                "ago",
                param,
                context,
            )


def as_time(micros: int | None) -> datetime | None:
    """The time that a `Moment` is, if there is one."""
    return None if micros is None else _EPOCH + timedelta(microseconds=micros)


def check_span(since: int | None, until: int | None) -> None:
    """Raises click.UsageError if no moment lies between two that `Moment` gave."""
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--until is not after --since, so that nothing lies between them")


SELECTION_PARAMETERS: list[click.Parameter] = [
    click.Option(["--model"], default="", metavar="ID", help="Of this model only."),
    click.Option(
        ["--since"],
        type=Moment(),
        help="Published since: 2026-11-24, 2026-11-24T06:00:00Z, or 6h, 2d for as long ago.",
    ),
    click.Option(["--until"], type=Moment(), help="Published before; times as of --since."),
]
