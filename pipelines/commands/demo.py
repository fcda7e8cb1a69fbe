"""`weighbridge demo`."""

from __future__ import annotations

import click

from pipelines.address import Folder
from pipelines.commands.terminal import console, quiet_imports
from pipelines.place import HOME, Place


@click.command(params=[HOME])
@click.option(
    "--months",
    default=1,
    show_default=True,
    type=click.IntRange(1, 11),
    help="Months of traffic; the models learn from the earlier ones.",
)
@click.option("--fresh", is_flag=True, help="Forget the home folder of an earlier demo.")
def demo(home: Folder, months: int, fresh: bool) -> None:
    """Send real flights through a model service, the pipeline, tables and Arize's protocol."""
    try:
        with quiet_imports():
            from pipelines.demo.command import run_demo
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"the demo needs {error.name}: pip install 'weighbridge-pipeline[demo]'"
        ) from None
    if not run_demo(console, Place(home=home).local_home("the demo"), months, fresh):
        raise click.exceptions.Exit(1)
