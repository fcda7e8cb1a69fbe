"""`make flink`: a Flink cluster to run the pipeline on, until Ctrl-C."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from threading import Event

import click

from deploy.flink.cluster import Ports, flink_cluster
from deploy.flink.downloads import CACHE, FLINK, NotAvailable

FOLDER = CACHE / "flink-cluster"
RUN = "weighbridge run --input_files archive --no_arize"
_DEFAULT = Ports()
_PORT = click.IntRange(1, 65535)


@click.command()
@click.option("--task_managers", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--rest_port",
    type=_PORT,
    default=_DEFAULT.rest,
    show_default=True,
    help="Of Flink's REST API.",
)
@click.option(
    "--job_port",
    type=_PORT,
    default=_DEFAULT.jobs,
    show_default=True,
    help="Of the job server.",
)
@click.option(
    "--python_path",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    multiple=True,
    help="Folder with a package of extractors, for the workers.",
)
def main(
    task_managers: int,
    rest_port: int,
    job_port: int,
    python_path: tuple[Path, ...],
) -> None:
    """Start Flink and Beam's job server, until Ctrl-C."""
    ports = Ports(rest_port, job_port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        with flink_cluster(FOLDER, ports, task_managers, python_path) as cluster:
            click.echo(f"Flink {FLINK} with {task_managers} task managers: {cluster.rest}")
            click.echo(f"Logs: {cluster.logs}")
            words = [RUN, *map(shlex.quote, cluster.arguments)]
            click.echo("Run on it:\n  " + " \\\n    ".join(words))
            click.echo("Ctrl-C ends it")
            Event().wait()
    except KeyboardInterrupt:
        click.echo()
    except (NotAvailable, RuntimeError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
