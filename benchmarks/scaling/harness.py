"""`python -m benchmarks.scaling.harness`: a run in Beam's worker process beside one in memory.

The bounded graph, over two sizes of the same traffic, so that what a process costs once falls out.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click

from benchmarks.machine import machine
from benchmarks.measure import measured
from benchmarks.traffic import Traffic, Written, write_traffic
from benchmarks.variants import DICTS, run_arguments
from pipelines.main import run

SIZES = 40_000, 240_000
MULTI = ("--direct_running_mode", "multi_processing", "--default_sdk_harness_log_level", "ERROR")
WAYS: dict[str, tuple[str, ...]] = {"in memory": (), "worker process": MULTI}


def harness_figures(
    root: Path, part: int, rounds: int, say: Callable[[str], object]
) -> dict[str, float]:
    """Microseconds of CPU for each further envelope, by way."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # where workers find the extractors
    traffic = [Traffic(f"harness-{size}", size // part) for size in SIZES]
    written = [write_traffic(root, one) for one in traffic]
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for way, arguments in WAYS.items():
            small, large = (_cpu(root / "home", one, arguments) for one in written)
            each = (large - small) / (written[1].envelopes - written[0].envelopes) * 1e6
            found.setdefault(way, []).append(each)
            say(f"round {number + 1}: {way}: {each:.1f} us for each further envelope")
    return {way: median(values) for way, values in found.items()}


def _cpu(home: Path, written: Written, more: tuple[str, ...]) -> float:
    shutil.rmtree(home, ignore_errors=True)
    arguments = run_arguments(written, home, DICTS, 1)
    return measured(lambda: run([*arguments, *more])).cpu


@click.command()
@click.option("--quick", is_flag=True, help="Little traffic, one round: whether it works.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
def main(quick: bool, rounds: int) -> None:
    """Compare runs in one process with runs in a worker process of Beam's."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as folder:
        found = harness_figures(
            Path(folder), 40 if quick else 1, 1 if quick else rounds, click.echo
        )
    click.echo(machine(["apache-beam"], rounds))
    click.echo(f"{found['worker process'] / found['in memory']:.2f} times the CPU")


if __name__ == "__main__":
    main()
