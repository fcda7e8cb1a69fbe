"""A run in this process, and the most memory that it took: `python -m benchmarks.peak`."""

from __future__ import annotations

import json
import logging
import resource
import sys
from pathlib import Path
from typing import NamedTuple


class Peak(NamedTuple):
    """Bytes that were resident at most: of the process, and of its largest child."""

    own: int
    child: int
    imported: int
    """Of the process before the run."""
    rows: int


def main(arguments: list[str]) -> None:
    """Run the pipeline, and print a `Peak` as JSON."""
    logging.disable(logging.WARNING)  # Beam's, about every optional part that is not installed
    from pipelines.main import run

    imported = _resident()
    report = run(arguments)
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps(Peak(_resident(), child, imported, report.rows)))


def _resident() -> int:
    # Not ru_maxrss, which begins with that of the process that forked us.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
