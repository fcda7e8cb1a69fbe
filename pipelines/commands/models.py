"""`weighbridge models`."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.address import Folder
from pipelines.commands.terminal import console, quiet_imports
from pipelines.options import PACKAGE
from pipelines.place import HOME


@click.command(params=[PACKAGE, HOME])
@click.argument("model", required=False)
@click.option(
    "--parked",
    is_flag=True,
    help="Show the model ids that are parked, what they look like, and which are quarantined.",
)
@click.option("--release", metavar="ID", help="Let a quarantined model back in.")
@click.option("--check", is_flag=True, help="Run the golden cases; exit 1 if one differs.")
@click.option("--write_golden", is_flag=True, help="Write the rows of the golden cases anew.")
@click.option(
    "--golden",
    type=click.Path(file_okay=False, path_type=Path),
    default="tests/golden",
    show_default=True,
    help="Folder of the golden cases, <model>/<case>/envelope.json.",
)
def models(
    model: str | None,
    extractors_package: str,
    home: Folder,
    parked: bool,
    release: str | None,
    check: bool,
    write_golden: bool,
    golden: Path,
) -> None:
    """Show the registered models: kinds, tables, columns and what Arize sees in them."""
    from pipelines.config.options import load_models

    if (check or write_golden) and (parked or release is not None):
        raise click.UsageError(
            "--check and --write_golden are for golden cases; drop --parked and --release"
        )
    if check and write_golden:
        raise click.UsageError("--write_golden makes what --check compares with; drop one of them")
    if model is not None and (parked or release is not None):
        raise click.UsageError(f"--parked and --release are of all models; drop {model}")
    if parked or release is not None:
        with quiet_imports():
            from pipelines.replay.failures_text import print_parked
            from pipelines.set_aside import print_quarantined, release_and_show

        if release is not None:
            release_and_show(console, home, load_models(extractors_package), release)
        if parked:
            print_quarantined(console, home)
            print_parked(console, home)
        return
    from pipelines.render import check_golden, print_models

    extractors = load_models(extractors_package)
    if model is not None and model not in {model_id for model_id, _ in extractors}:
        known = ", ".join(sorted({model_id for model_id, _ in extractors}))
        raise click.UsageError(f"no model {model} is registered in {extractors_package}: {known}")
    if check or write_golden:
        if not check_golden(console, extractors, golden, model, write=write_golden):
            raise click.exceptions.Exit(1)
    else:
        print_models(console, extractors, model)
