"""`python -m benchmarks`: run the cases, print a table, and write it for the documentation."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

QUICK_ROUNDS = 1
WIDTH = 130
console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


@click.command()
@click.option("--quick", is_flag=True, help="Little traffic, one round: whether all of it works.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this case; may be repeated.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the traffic here for the next time, instead of in a folder that is removed.",
)
@click.option(
    "--write",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the table as Markdown, too.",
)
def main(
    quick: bool, only: tuple[str, ...], rounds: int, folder: Path | None, write: Path | None
) -> None:
    """Measure what the pipeline costs beside a loop written by hand."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        _run(folder.resolve(), quick, set(only), rounds, write)
        return
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as temporary:
        _run(Path(temporary).resolve(), quick, set(only), rounds, write)


def _run(root: Path, quick: bool, only: set[str], rounds: int, write: Path | None) -> None:
    logging.disable(logging.WARNING)  # Beam's, about every optional part that is not installed
    from benchmarks.cases import QUICK, Sizes, cases
    from benchmarks.follow import follow_notes
    from benchmarks.memory import memory_notes
    from benchmarks.report import as_markdown, as_table, lines
    from benchmarks.workshop import Workshop

    sizes = QUICK if quick else Sizes()
    rounds = QUICK_ROUNDS if quick else rounds
    os.environ["WEIGHBRIDGE_BENCH_MODELS"] = str(sizes.models)
    known = list(cases(sizes))
    names = [*(case.name for case in known), "memory", "follow"]
    if not only <= set(names):
        raise click.UsageError(f"--only takes {', '.join(names)}")
    chosen = [case for case in known if not only or case.name in only]
    workshop = Workshop(root, say=console.print)
    samples = workshop.run(chosen, rounds, warm_up=not quick)
    found = list(lines(chosen, samples, workshop))
    notes: list[str] = []
    if not only or "memory" in only:
        notes += memory_notes(root, sizes.memory, sizes.memory_copies)
    if not only or "follow" in only:
        notes += follow_notes(root, sizes.follow)
    if found:
        console.print(as_table(found))
    for note in notes:
        console.print(note)
    if write is not None:
        write.write_text(as_markdown(found, notes, rounds) + "\n")


if __name__ == "__main__":
    main()
