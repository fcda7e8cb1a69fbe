"""The command `weighbridge`. Imports neither Beam nor Arrow before a command needs them."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipelines.options import (
    HOME,
    PACKAGE,
    RUN_PARAMETERS,
    RUN_SETTINGS,
    Duration,
    normalized,
    run_options,
)

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="weighbridge-pipeline", message="weighbridge %(version)s")
def cli() -> None:
    """Weigh every model in traffic: from raw envelopes to tables and to Arize.

    Options may be written with hyphens or with underscores.
    """


def _run(**parameters: Any) -> None:
    """Read archive files, or follow a subscription, and add what is missing to tables and to Arize.

    Following goes on until SIGINT or SIGTERM, which end it after the batch in hand. Options of
    Apache Beam pass through. Exit status: 0 done (dead letters are reported, and no error), 1 the
    run failed, 2 wrong usage or configuration.
    """
    with _quiet_imports():
        from pipelines.console import ConsoleDisplay
        from pipelines.main import run_with
        from pipelines.render import print_report
    options = run_options(parameters, click.get_current_context().args)
    with ConsoleDisplay(console) as display:
        report = run_with(options, display)
    if options.streaming:
        return
    print_report(console, report, options.home)
    if report.failing:
        raise click.exceptions.Exit(1)
    if report.push_denied:
        raise click.ClickException(
            "Arize refuses the key or a space; the rows are in the tables, and wait in the outbox"
        )


cli.add_command(
    click.Command(
        "run",
        callback=_run,
        params=RUN_PARAMETERS,
        context_settings=RUN_SETTINGS,
        help=_run.__doc__,
        short_help="Read archive files and add what is missing.",
    )
)


@cli.command(params=[PACKAGE])
@click.argument("model", required=False)
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
    model: str | None, extractors_package: str, check: bool, write_golden: bool, golden: Path
) -> None:
    """Show the registered models: kinds, tables, columns and what Arize sees in them."""
    from extractors import load_extractors
    from pipelines.render import check_golden, print_models

    extractors = load_extractors(extractors_package)
    if model is not None and model not in {model_id for model_id, _ in extractors}:
        known = ", ".join(sorted({model_id for model_id, _ in extractors}))
        raise click.UsageError(f"no model {model} is registered in {extractors_package}: {known}")
    if check or write_golden:
        if not check_golden(console, extractors, golden, model, write=write_golden):
            raise click.exceptions.Exit(1)
    else:
        print_models(console, extractors, model)


@cli.group(invoke_without_command=True, params=[HOME, PACKAGE])
@click.pass_context
def tables(context: click.Context, home: Path, extractors_package: str) -> None:
    """Show the tables: rows, partitions, snapshots."""
    if context.invoked_subcommand is None:
        from extractors import load_extractors
        from pipelines.render import print_tables

        print_tables(console, _opened(home), load_extractors(extractors_package))


@tables.command(params=[HOME])
@click.argument("model")
@click.option("--actuals", is_flag=True, help="Its actuals instead of its predictions.")
@click.option("--rows", default=3, show_default=True, type=click.IntRange(min=1))
@click.pass_context
def show(context: click.Context, home: Path, model: str, actuals: bool, rows: int) -> None:
    """Print rows of a model's table, or of a platform table such as `deliveries`."""
    from pipelines.render import print_rows

    given = context.get_parameter_source("home") is not click.core.ParameterSource.DEFAULT
    assert context.parent is not None
    opened = _opened(home if given else context.parent.params["home"])
    print_rows(console, opened, model, actuals, rows)


def _opened(home: Path) -> Any:
    from pipelines.tables import Tables

    if not (home / "tables" / "catalog.db").exists():
        raise click.UsageError(
            f"{home} holds no tables yet; `weighbridge run --home {home}` makes some"
        )
    return Tables(home)


@cli.group()
def actuals() -> None:
    """Late actuals: what turned out to be true."""


@actuals.command("upload")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", required=True, metavar="ID", help="The model whose actuals they are.")
@click.option(
    "--destination",
    default="",
    envvar="WEIGHBRIDGE_DESTINATION",
    show_envvar=True,
    metavar="TOPIC_OR_FOLDER",
    help="A Pub/Sub topic, projects/P/topics/T, or a folder.",
)
@click.option(
    "--format",
    type=click.Choice(["parquet", "csv", "avro"]),
    show_default="by the file's suffix",
    help="What the file is.",
)
@click.option(
    "--event_time",
    default="",
    metavar="COLUMN",
    show_default="when the file was written",
    help="When each actual became known: times, ISO 8601 text, or numbers.",
)
@click.option(
    "--time_zone", default="", metavar="ZONE", help="Of event times that name none, e.g. UTC."
)
@click.option(
    "--time_unit",
    type=click.Choice(["s", "ms", "us", "ns"]),
    help="Of event times that are numbers since 1970.",
)
@click.option(
    "--sampling_key",
    default="",
    metavar="COLUMN",
    show_default="keep all",
    help="Sample by this column as the service does, at the rates of WEIGHBRIDGE_SAMPLE.",
)
@click.option("--model_version", default="", metavar="TEXT", help="The model's version.")
@click.option(
    "--as_text",
    multiple=True,
    metavar="COLUMN",
    help="Of CSV: text whatever it looks like, e.g. ids; more than once for several.",
)
@click.option(
    "--delimiter", default="", metavar="CHARACTER", show_default=",", help="Between values in CSV."
)
@click.option(
    "--retry_for",
    type=Duration(),
    default="1m",
    show_default=True,
    help="How long to try again when the destination does not take it.",
)
@click.option(
    "--dry_run", is_flag=True, help="Check the file and show its first actual; send none."
)
def upload_actuals(**parameters: Any) -> None:
    """Send the records of a Parquet, CSV or Avro FILE as late actuals.

    Each record becomes one actual whose payload is the record as a JSON object. The whole file is
    checked before anything is sent. The same record with the same event time is the same actual, so
    that a file may be sent again. Exit status: 0 all was delivered, 1 not all, 2 wrong usage or
    file.
    """
    from pipelines.actuals.command import UploadOptions, run_upload
    from pipelines.actuals.delivery import UndeliveredError

    try:
        run_upload(console, UploadOptions(**parameters))
    except UndeliveredError as error:
        errors.print(f"Error: {error}", markup=False, soft_wrap=True)
        raise click.exceptions.Exit(1) from None


@cli.command(params=[HOME])
@click.option(
    "--months",
    default=1,
    show_default=True,
    type=click.IntRange(1, 11),
    help="Months of traffic; the models learn from the earlier ones.",
)
@click.option("--fresh", is_flag=True, help="Forget the home folder of an earlier demo.")
def demo(home: Path, months: int, fresh: bool) -> None:
    """Send real flights through a model service, the pipeline, tables and Arize's protocol."""
    try:
        with _quiet_imports():
            from pipelines.demo.command import run_demo
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"the demo needs {error.name}: pip install 'weighbridge-pipeline[demo]'"
        ) from None
    if not run_demo(console, home, months, fresh):
        raise click.exceptions.Exit(1)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 failed, 2 wrong usage or configuration."""
    sys.exit(_main(sys.argv[1:] if argv is None else argv))


def _main(argv: Sequence[str]) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    # A company's package is found where the command is run, as with `python -m`.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        code = cli.main(normalized(argv), prog_name="weighbridge", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.Abort:
        errors.print("Aborted.")
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except Exception as error:
        return _failed(error)
    return code if isinstance(code, int) else 0


def _failed(error: Exception) -> int:
    from schemas import ConfigurationError, RetriableError

    if isinstance(error, ConfigurationError):
        errors.print(f"Error: {error}", markup=False, soft_wrap=True)
        return 2
    if isinstance(error, RetriableError):
        errors.print(f"Error: the run failed: {error}", markup=False, soft_wrap=True)
        return 1
    # Texts of foreign errors may quote payloads; classes, places and source lines do not.
    text = f": {error}" if isinstance(error, OSError) else ""
    for line in traceback.format_tb(error.__traceback__):
        errors.print(line.rstrip(), markup=False, soft_wrap=True)
    errors.print(
        f"Error: the run failed with {type(error).__name__}{text}", markup=False, soft_wrap=True
    )
    return 1


class _quiet_imports:
    """Beam warns about every optional part that is not installed."""

    def __enter__(self) -> None:
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)
