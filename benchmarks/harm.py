"""`python -m benchmarks.harm`: what three harmful models cost the others, before and after they are
quarantined.

50 models share one input; three of them loop, yield rows without end, or raise. The same input
with 47 of them is the baseline; both are run in turn, in one process each.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import copytree, rmtree
from statistics import median
from time import perf_counter

import click

from benchmarks.models.harm.crowd import HARMFUL, MODELS

_CHILD = "import sys; from benchmarks.harm import run_once; run_once(*sys.argv[1:])"


@click.command()
@click.option("--envelopes", default=2000, show_default=True, help="Of each model.")
@click.option("--rounds", default=5, show_default=True)
def main(envelopes: int, rounds: int) -> None:
    """Measure it, as the share of their throughput that the other models keep."""
    with tempfile.TemporaryDirectory(prefix="weighbridge-harm-") as folder:
        root = Path(folder)
        _write(root / "well", envelopes, harmful=False)
        _write(root / "harmed", envelopes, harmful=True)
        first = _timed(root, "harmed", root / "home-harmed")
        _timed(root, "well", root / "home-well")
        ratios = []
        for _ in range(rounds):
            # Known envelopes would be left out: each run has a home whose tables are empty.
            well = _timed(root, "well", _fresh(root, "well"))
            harmed = _timed(root, "harmed", _fresh(root, "harmed"))
            ratios.append(well / harmed)
    well_envelopes = (MODELS - HARMFUL) * envelopes
    click.echo(
        f"{MODELS} models, {HARMFUL} harmful, {well_envelopes:,} envelopes of the others: "
        f"once quarantined they keep {median(ratios):.2f} of their throughput "
        f"({min(ratios):.2f} to {max(ratios):.2f}); quarantining them took {first:.1f} s"
    )


def run_once(files: str, home: str) -> None:
    """Run an input into a home, and print the seconds that it took."""
    logging.disable(logging.WARNING)
    from pipelines.main import run

    own = ["--input_files", files, "--home", home, "--no_arize", "--quarantine"]
    started = perf_counter()
    run([*own, "--extractors_package", "benchmarks.models.harm"])
    print(perf_counter() - started)


def _timed(root: Path, name: str, home: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(root / name), str(home)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def _fresh(root: Path, name: str) -> Path:
    """A home that knows only who is quarantined."""
    home = root / f"again-{name}"
    rmtree(home, ignore_errors=True)
    known = root / f"home-{name}" / "quarantine"
    if known.exists():
        copytree(known, home / "quarantine")
    return home


def _write(folder: Path, envelopes: int, *, harmful: bool) -> None:
    from weighbridge import EnvelopePublisher

    first = 0 if harmful else HARMFUL
    publisher = EnvelopePublisher(folder, max_queued=10_000_000, max_queued_bytes=1 << 30)
    for number in range(envelopes):
        body = b'{"number": %d, "text": "%s"}' % (number, b"x" * 200)
        for model in range(first, MODELS):
            publisher.capture(f"harm-{model}", body, b"1")
    publisher.close(timeout=120)


if __name__ == "__main__":
    main()
