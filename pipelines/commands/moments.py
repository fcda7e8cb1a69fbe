"""Points in time, as commands take them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click


class Moment(click.ParamType[datetime, str]):
    """A day or a time, in UTC where it says no offset."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> datetime:
        """An aware time; a day is its beginning."""
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
        except ValueError:
            self.fail(
                f"{value!r} is no time; write 2026-01-31 or 2026-01-31T12:00:00Z", param, context
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
