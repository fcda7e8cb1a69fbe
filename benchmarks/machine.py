"""When and on what was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def machine(libraries: Iterable[str], rounds: int | None = None) -> str:
    """The day, the processor, Python and these libraries in one sentence."""
    listed = ", ".join(f"{name} {version(name)}" for name in libraries)
    repeated = "" if rounds is None else f" in {rounds} rounds"
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d}{repeated} on {os.cpu_count()} cores of "
        f"{_processor()} with Python {platform.python_version()}, {listed}."
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else []:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
