"""`weighbridge config`."""

from __future__ import annotations

import click
from rich.console import Console


@click.group()
def config() -> None:
    """Settings by environment, from `weighbridge.toml`."""


@config.command("show")
@click.argument("command", nargs=-1)
def show_config(command: tuple[str, ...]) -> None:
    """Print each option of COMMAND, by default run, and of spaces and models; with its source.

    Of secrets, it prints where they are, and does not read them.
    """
    from pipelines.config.show import print_config

    # Never folded: what is printed here is searched, and copied.
    print_config(Console(highlight=False, width=1000), list(command) or ["run"])
