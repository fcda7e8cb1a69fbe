"""Time spans and sizes, as options and `weighbridge.toml` take them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Duration(click.ParamType[float, str]):
    """A time span such as 30s, 5m or 2h, as seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Seconds of a text; numbers stay what they are."""
        if isinstance(value, (int, float)):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value.strip())
        if not found:
            self.fail(f"{value!r} is no time span; write 30s, 5m, 2h or 1d", param, context)
        return float(found[1]) * _UNITS[found[2]]


class Size(click.ParamType[int, str]):
    """A number of bytes such as 500MB or 10GB."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        """Bytes of a text; numbers stay what they are."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+)([KMGT]?)B?", value.strip(), re.IGNORECASE)
        if not found:
            self.fail(f"{value!r} is no size; write 500MB or 10GB", param, context)
        power: int = " KMGT".index(found[2].upper() or " ")
        return int(found[1]) * int(1000**power)


def timespan(text: str) -> timedelta:
    """A time span of a text such as 30s or 14d.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        return timedelta(seconds=Duration().convert(text, None, None))
    except OverflowError:
        raise click.BadParameter("longer than time spans can be") from None


def timespan_text(span: timedelta) -> str:
    """The text of a time span, in its largest unit that leaves no fraction."""
    seconds = span.total_seconds()
    unit = next((u for u in reversed(_UNITS) if not seconds % _UNITS[u]), "s")
    return f"{seconds / _UNITS[unit]:g}{unit}"
