"""Spaces of Arize: where their ids and keys are, and how late an actual may come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from pipelines.secrets import Secret

API_KEY, SPACE_ID = "ARIZE_API_KEY", "ARIZE_SPACE_ID"
DEFAULT_SPACE = "default"
"""What `weighbridge.toml` calls the space of models that name none."""
LOOKBACK = timedelta(days=14)
"""How far back Arize joins actuals unless it is told otherwise."""


@dataclass(frozen=True)
class Space:
    """A space of Arize. Holds no value that is secret, only where it is.

    Args:
        name: as `arize_space` of a model's settings names it, "" for the default.
        space_id: where its id is.
        api_key: where a key is that may write into it.
        lookback: how long after its prediction Arize still joins an actual.
    """

    name: str
    space_id: Secret
    api_key: Secret = Secret("env", API_KEY)
    lookback: timedelta = LOOKBACK


def space_by_variables(name: str) -> Space:
    """A space that no file describes: ARIZE_API_KEY, and ARIZE_SPACE_ID or ARIZE_SPACE_ID_NAME."""
    suffix = f"_{name.upper().replace('-', '_')}" if name else ""
    return Space(name, Secret("env", SPACE_ID + suffix))


def space_named(name: str, described: Mapping[str, Space]) -> Space:
    """The space that models name so, of those that a file describes or else by variables."""
    name = "" if name == DEFAULT_SPACE else name
    return described.get(name) or space_by_variables(name)
