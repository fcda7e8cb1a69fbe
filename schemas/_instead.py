"""What to write for types that tables have no column for, where there is one that comes close."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

_NEAREST: tuple[tuple[type, str], ...] = (
    (Decimal, "float, or str to keep every digit"),
    (datetime, "Timestamp, which has an offset and microseconds: digits below are cut off"),
    (date, "date"),
    (timedelta, "float, in seconds"),
    (time, "str"),
    (UUID, "str"),
)
# By the beginning of their names: NumPy is not imported for this.
_NUMPY = {
    "uint": "int, which goes up to 2**63 - 1, or str for larger numbers",
    "int": "int",
    "float": "float",
    "longdouble": "float",
    "bool": "bool",
    "str": "str",
    "bytes": "bytes",
    "datetime64": _NEAREST[1][1],
    "timedelta64": "float, in seconds",
    "ndarray": "list[float], or a list of another type",
}


def instead_of(annotation: Any) -> str:
    """The type to use for another one, and why; "" where nothing comes close."""
    if not isinstance(annotation, type):
        return ""
    if annotation.__module__.partition(".")[0] == "numpy":
        name = annotation.__name__
        return next((nearest for begin, nearest in _NUMPY.items() if name.startswith(begin)), "")
    # Pydantic's own, such as NaiveDatetime, derive from nothing.
    for kind, nearest in _NEAREST:
        same = annotation.__name__.lower().endswith(kind.__name__.lower())
        if issubclass(annotation, kind) or (annotation.__module__ == "pydantic.types" and same):
            return nearest
    return ""
