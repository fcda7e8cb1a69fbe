"""Looks at a publisher's arguments once, so that a wrong one ends the start and not the capture."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

_TAKES: dict[str, tuple[tuple[type, ...], str]] = {
    "model_id": ((str,), "str"),
    "model_version": ((str,), "str"),
    "event_time": ((datetime,), "a datetime"),
    "headers": ((Mapping, list, tuple), "a mapping or pairs"),
    "attributes": ((Mapping,), "a mapping of str to str"),
    "request": ((bytes, bytearray, memoryview), "bytes"),
    "response": ((bytes, bytearray, memoryview), "bytes"),
    "sampling_key": ((str,), "str"),
    "status": ((int,), "int"),
    "latency_us": ((int,), "int"),
}


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError if it is none of them."""
    if value not in choices:
        raise ValueError(f"{name}: write {' or '.join(map(repr, choices))}")


def whole(name: str, value: object) -> None:
    """Raises ValueError if it is no int from 0 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name}: give a whole number from 0 on")


def seconds(name: str, value: object) -> None:
    """Raises ValueError if it is no finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name}: give a number of seconds, and no {type(value).__name__}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: give a number of seconds from 0 on")


def text(name: str, value: object, wanted: str) -> str:
    """What a path or text says; ValueError if it is neither, or empty."""
    given = type(value).__name__
    if isinstance(value, (str, os.PathLike)):
        spelled = os.fspath(value)
        if isinstance(spelled, str) and spelled:
            return spelled
        given = "empty text"
    raise ValueError(f"{name}: give {wanted}, and no {given}")


def folder(name: str, value: object) -> Path:
    """The folder, which is made.

    Raises:
        ValueError: it is no path.
        OSError: it cannot be made.
    """
    path = Path(text(name, value, "the path of a folder"))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise type(error)(f"{name}: {path} is, or is below, a file; name a folder") from None
    return path


def refusal(**arguments: Any) -> Callable[[], str]:
    """Says which of the arguments of a capture cannot be taken, without any of its value."""

    def say() -> str:
        for name, value in arguments.items():
            kinds, takes = _TAKES[name]
            if value is None and name != "model_id":
                continue
            if not isinstance(value, kinds):
                return f"{name} takes {takes}, and no {type(value).__name__}"
        moment = arguments.get("event_time")
        if moment is not None and moment.tzinfo is None:
            return "event_time has no time zone"
        return ""

    return say
