"""`python -m benchmarks.capture`: measure, print tables and what was aimed at, and write both."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from benchmarks.capture import load, paced, rate, states
from benchmarks.capture.figures import Part
from benchmarks.emulator import Emulator, emulator
from benchmarks.machine import machine

LIBRARIES = [
    "google-cloud-pubsub",
    "grpcio",
    "fastavro",
    "orjson",
    "zstandard",
    "opentelemetry-sdk",
    "arize",
    "uvicorn",
    "starlette",
]
PARTS = ("paced", "broker", "load", "rate")
WIDTH = 150
console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


@click.command()
@click.option("--quick", is_flag=True, help="Short windows, few of them: whether all of it works.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Only this part.")
@click.option("--rounds", type=click.IntRange(min=1), help="Windows of each way and setting.")
@click.option(
    "--write",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the tables as Markdown, too.",
)
def main(quick: bool, only: tuple[str, ...], rounds: int | None, write: Path | None) -> None:
    """Measure what capture costs the thread that calls it, its process and its service."""
    parts: list[Part] = []
    temporary = tempfile.TemporaryDirectory(prefix="weighbridge-bench-")
    with temporary as root, emulator() as running:
        for name in only or PARTS:
            folder = Path(root) / name
            folder.mkdir()
            parts.append(_measure(name, quick, rounds, running, folder))
    for part in parts:
        for table in part.tables:
            console.print(table.for_terminal())
    aims = [aim for part in parts for aim in part.aims]
    for aim in aims:
        console.print(f"[{'green' if aim.met else 'red'}]{aim}")
    if write is not None:
        tables = [table.as_markdown() for part in parts for table in part.tables]
        listed = "\n".join(f"- {aim}" for aim in aims)
        write.write_text("\n\n".join(filter(None, [machine(LIBRARIES), *tables, listed])) + "\n")


def _measure(name: str, quick: bool, rounds: int | None, running: Emulator, folder: Path) -> Part:
    # Without a subscription the emulator keeps nothing of what it is sent.
    topic = f"projects/bench/topics/{name}"
    running.publisher.create_topic(name=topic)
    if name == "paced":
        pace = paced.Pace(0.3, 1) if quick else paced.Pace()
        pace = paced.Pace(pace.seconds, rounds or pace.rounds)
        return paced.measure(pace, topic, running.host, folder, console.print)
    if name == "broker":
        return states.measure(rounds or (1 if quick else 6), running, topic, folder, console.print)
    if name == "load":
        size = load.Load(0.5, 1) if quick else load.Load()
        size = load.Load(size.seconds, rounds or size.rounds)
        return load.measure(size, topic, running.host, folder, console.print)
    return rate.measure(0.5 if quick else 4.0, topic, running.host, folder, console.print)


if __name__ == "__main__":
    main()
