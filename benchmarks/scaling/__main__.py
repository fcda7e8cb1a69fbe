"""`python -m benchmarks.scaling`: measure the curves, compute what traffic takes, write both."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from benchmarks.capture.figures import Table
from benchmarks.machine import machine
from benchmarks.scaling.curves import CURVES, QUICK, Found, Sizes, fitted, uncommitted
from benchmarks.scaling.hops import Hops, hops, push_micros, uploaded_bytes
from benchmarks.scaling.plan import Measured, Traffic, plan
from benchmarks.scaling.stages import COMMIT

LIBRARIES = ["apache-beam", "fastavro", "orjson", "pyarrow", "pydantic", "pyiceberg", "zstandard"]
WIDTH = 150
console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


@click.command()
@click.option("--quick", is_flag=True, help="Little traffic, one round: whether all of it works.")
@click.option("--only", type=click.Choice([*CURVES]), help="Only this curve, and no plan.")
@click.option(
    "--write",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the tables as Markdown, too.",
)
def main(quick: bool, only: str | None, write: Path | None) -> None:
    """Measure how the cost of an envelope grows, and compute what 1,000,000 a second take."""
    logging.disable(logging.WARNING)
    sizes = QUICK if quick else Sizes()
    tables: list[Table] = []
    found: dict[str, list[Found]] = {}
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as root:
        for name in [only] if only else CURVES:
            table, found[name] = CURVES[name](sizes, Path(root), console.print)
            tables.append(table)
        if not only:
            way = hops(sizes.envelopes // 4, Path(root))
            measured = _measured(found, way, push_micros(sizes.rows))
            tables += [way.table, plan(measured, Traffic(0))]
            console.print(measured)
            console.print(f"{uploaded_bytes(sizes.rows):.0f} bytes of a row in an upload to Arize")
    for table in tables:
        console.print(table.for_terminal())
    if write is not None:
        texts = [machine(LIBRARIES), *(table.as_markdown() for table in tables)]
        write.write_text("\n\n".join(texts) + "\n")


def _measured(found: dict[str, list[Found]], way: Hops, push: float) -> Measured:
    rows = found["rows"]
    line = fitted([one.point.traffic.rows for one in rows], [uncommitted(one) for one in rows])
    single, commits = rows[0], found["commits"][0]
    count = single.point.traffic.envelopes
    return Measured(
        envelope=line(0),
        row=line(1) - line(0),
        commit=commits.micros(COMMIT) * commits.point.traffic.envelopes / commits.last.commits,
        push=push,
        message=way.message,
        shuffled=single.last.shuffled / count,
        file=single.last.file_bytes / count,
    )


if __name__ == "__main__":
    main()
