"""`python -m benchmarks.capture`: measure, print tables and what was aimed at, and write both."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from benchmarks.capture import load, paced, rate, states
from benchmarks.capture.figures import Part
from benchmarks.emulator import Emulator, NoEmulator, emulator
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
    try:
        with temporary as root, emulator() as running:
            for name in only or PARTS:
                folder = Path(root) / name
                folder.mkdir()
                parts.append(_measure(name, quick, rounds, running, folder))
    except NoEmulator as error:
        raise click.ClickException(str(error)) from None
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
        pace = paced.QUICK if quick else paced.Pace()
        pace = replace(pace, rounds=rounds or pace.rounds)
        return paced.measure(pace, topic, running.host, folder, console.print)
    if name == "broker":
        trial = states.QUICK if quick else states.Trial()
        trial = replace(trial, windows=rounds or trial.windows)
        return states.measure(trial, running, topic, folder, console.print)
    if name == "load":
        size = load.QUICK if quick else load.Load()
        size = replace(size, rounds=rounds or size.rounds)
        return load.measure(size, topic, running.host, folder, console.print)
    climb = rate.QUICK if quick else rate.Climb()
    return rate.measure(climb, topic, running.host, folder, console.print)


if __name__ == "__main__":
    main()
