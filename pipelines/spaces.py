"""Spaces of Arize: where their ids and keys are, and how late an actual may come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from pipelines.secrets import Secret

API_KEY, SPACE_ID = "ARIZE_API_KEY", "ARIZE_SPACE_ID"
DEFAULT_SPACE = "default"
"""What `weighbridge.toml` calls the space of models that name none."""


@dataclass(frozen=True)
class Space:
    """Settings of one Arize space. Holds no value that is secret, only where it is.

    Attributes:
        name: as the settings of models name it, "" for the default one.
        space_id: where its id is; None is the variable ARIZE_SPACE_ID, or ARIZE_SPACE_ID_NAME.
        api_key: where a key is that may write into it.
        look_back: how long after it received a prediction Arize joins actuals to it. Its support
            can make that longer.
        uploads_at_once: threads that upload. Two were 1.6 times as fast as one, four no faster:
            the rest of the work holds Python's lock.
        max_upload_bytes: of Arrow in one upload; more is split. Arize documents no limit, and
            uploads of 27 MB are what its SDK makes of 100,000 rows.
    """

    name: str = ""
    space_id: Secret | None = None
    api_key: Secret = Secret("env", API_KEY)
    look_back: timedelta = timedelta(days=14)
    uploads_at_once: int = 2
    max_upload_bytes: int = 32 << 20

    @property
    def id(self) -> Secret:
        """Where its id is."""
        suffix = f"_{self.name.upper().replace('-', '_')}" if self.name else ""
        return self.space_id or Secret("env", SPACE_ID + suffix)


def space_named(name: str, described: Iterable[Space]) -> Space:
    """The space that models name so, as it is described, or else as variables tell."""
    name = "" if name == DEFAULT_SPACE else name
    return next((space for space in described if space.name == name), Space(name))
