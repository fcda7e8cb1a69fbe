"""`python -m benchmarks.push`: what the push to Arize costs beside bare calls of its SDK.

The same data files are sent in turn by `Push`, which reads them, checks the answers, keeps the
outbox and writes deliveries; by calls of `ml.log` for data frames that are in memory already; and
by a loop that reads the files and calls `ml.log`. Batches are the same, and so is the receiver, a
process of its own.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq

from benchmarks.measure import Sample, Spread, measured, ratios

SPACE = "bench"
Runs = dict[str, Callable[[str], object]]


@contextmanager
def receiver() -> Iterator[str]:
    """Address of a receiver in a process of its own."""
    command = [str(Path(sys.executable).with_name("weighbridge")), "arize", "receiver"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


class Bench:
    """Tables of some models, and the ways to send what is in them.

    Args:
        root: an empty folder.
        models: how many.
        rows: of each.
    """

    def __init__(self, root: Path, models: int, rows: int) -> None:
        os.environ["WEIGHBRIDGE_BENCH_MODELS"] = str(models)
        from benchmarks.traffic import Traffic, write_traffic
        from extractors import load_extractors
        from pipelines.main import run
        from pipelines.tables import Tables

        most = min(500, rows)
        traffic = Traffic("push", models * rows, models=models, fewest=most, most=most)
        written = write_traffic(root, traffic)
        package = "benchmarks.models.many" if models > 10 else "benchmarks.models.dicts"
        arguments = ["--input_files", written.files, "--home", str(root / "home"), "--no_arize"]
        run([*arguments, "--extractors_package", package])
        self._extractors = load_extractors(package)
        self._tables = Tables(root / "home")
        self.rows = models * rows

    def push(self, url: str) -> object:
        """Send everything through the outbox; queueing is not counted by the caller."""
        from pipelines.arize import ArizeAccess
        from pipelines.push import Push

        pushed = Push(self._tables.home, self._tables, self._extractors, ArizeAccess(url)).deliver()
        assert sum(pushed.values()) == self.rows, pushed
        return pushed

    def queue(self) -> None:
        """Put all files into the outbox."""
        from pipelines.requeue import requeue
        from pipelines.tables import table_of

        for item in self._extractors.values():
            requeue(self._tables, table_of(item).name, None, None, again=True)

    def frames(self) -> list[tuple[str, Any, Any, list[Path]]]:
        """For each call: the model, a data frame, the SDK's schema, and the files behind them."""
        from pipelines.frames import data_frame, sdk_schema, sent_columns
        from pipelines.push import _batches
        from pipelines.tables import table_of
        from schemas.columns import columns_of

        found = []
        for item in self._extractors.values():
            name = table_of(item).name
            columns = sent_columns(columns_of(item.row))
            refs = [("", ref) for ref in self._tables.held(name)]
            for batch in _batches(name, refs):
                paths = [Path(ref.path) for _, ref in batch.files]
                rows = pq.read_table(paths)
                frame = data_frame(rows, columns, "event_time")
                schema = sdk_schema(rows, columns, item.model_type, "event_time")
                found.append((item.model_id, frame, schema, paths))
        return found


def bare(url: str, frames: list[tuple[str, Any, Any, list[Path]]], read: bool) -> object:
    """Call `ml.log` for each batch, one after another."""
    from arize.ml.types import Environments, ModelTypes

    from pipelines.arize import ArizeAccess

    client = ArizeAccess(url).client()
    for model_id, ready, schema, paths in frames:
        frame = pq.read_table(paths, columns=list(ready.columns)).to_pandas() if read else ready
        client.log(
            space_id=SPACE,
            model_name=model_id,
            model_type=ModelTypes.BINARY_CLASSIFICATION,
            dataframe=frame,
            schema=schema,
            environment=Environments.PRODUCTION,
            model_version="1",
            timeout=60,
        )
    return None


def measure(bench: Bench, rounds: int) -> dict[str, list[Sample]]:
    """Samples by way; each round has a fresh receiver, and the ways take turns in it."""
    frames = bench.frames()
    ways: Runs = {
        "push": bench.push,
        "ml.log, frames in memory": lambda url: bare(url, frames, read=False),
        "ml.log, files read": lambda url: bare(url, frames, read=True),
    }
    samples: dict[str, list[Sample]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            if name == "push":
                bench.queue()
            with receiver() as url:
                sample = measured(lambda way=way, url=url: way(url))  # type: ignore[misc]
            if number:  # the first is to warm up
                samples[name].append(sample)
    return samples


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--rows", default=200_000, show_default=True, help="In all.")
@click.option("--models", multiple=True, type=int, default=(10, 1000), show_default=True)
@click.option("--quick", is_flag=True, help="Little, once: whether all of it works.")
def main(rounds: int, rows: int, models: tuple[int, ...], quick: bool) -> None:
    """Compare the push with bare calls of Arize's SDK, for 10 models and for 1,000."""
    logging.disable(logging.WARNING)
    rounds, rows = (1, 2000) if quick else (rounds, rows)
    os.environ |= {"ARIZE_API_KEY": "key", "ARIZE_SPACE_ID": SPACE}
    for count in (10, 20) if quick else models:
        with tempfile.TemporaryDirectory(prefix="weighbridge-push-") as root:
            samples = measure(Bench(Path(root), count, rows // count), rounds)
        click.echo(f"{count:,} models, {rows:,} rows")
        walls = {name: [sample.wall for sample in found] for name, found in samples.items()}
        for name, found in walls.items():
            speed = Spread.of([rows / wall for wall in found])
            ratio = ratios(found, walls["push"])
            click.echo(
                f"  {name:26} {speed.middle:9,.0f} rows/s   push/this "
                f"{ratio.middle:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
            )


if __name__ == "__main__":
    main()
