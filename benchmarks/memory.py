"""The most memory that a run takes, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.homes import Homes
from benchmarks.peak import Peak
from benchmarks.traffic import Traffic, write_traffic
from benchmarks.variants import DICTS, run_arguments


def memory_notes(root: Path, envelopes: int, copies: int) -> list[str]:
    """A line for each number of workers that there can be."""
    # 37 MB of Avro payloads for each 10,000 envelopes.
    traffic = Traffic("memory", envelopes, rows=20, copies=copies)
    return [_note(root, traffic, workers) for workers in (1, 2)]


def _note(root: Path, traffic: Traffic, workers: int) -> str:
    """A line about a run.

    Raises:
        subprocess.CalledProcessError: the run failed.
    """
    written = write_traffic(root / "traffic", traffic)
    homes = Homes(root)
    homes.prepare("memory", DICTS)
    arguments = run_arguments(written, homes.home, DICTS, workers)
    command = [sys.executable, "-m", "benchmarks.peak", json.dumps(arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    peak = Peak(*json.loads(done.stdout.splitlines()[-1]))
    if peak.rows != written.good_rows:
        raise ValueError(f"{peak.rows:,} rows were written, not {written.good_rows:,}")
    children = f", its largest child {_megabytes(peak.child)}" if workers > 1 else ""
    return (
        f"peak memory, {written.avro / 1e9:.1f} GB of Avro payloads, {written.good_rows:,} rows, "
        f"{workers} worker{'s' if workers > 1 else ''}: {_megabytes(peak.own)}{children}; "
        f"{_megabytes(peak.imported)} of it before the run"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
