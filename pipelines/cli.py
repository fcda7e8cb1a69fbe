"""The command `weighbridge`: its commands, and how each way to end is said."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence

import click

from pipelines.commands.actuals import actuals
from pipelines.commands.arize import arize
from pipelines.commands.check import check
from pipelines.commands.compare import compare
from pipelines.commands.config import config
from pipelines.commands.demo import demo
from pipelines.commands.deploy import deploy
from pipelines.commands.failures import failures
from pipelines.commands.ledger import ledger
from pipelines.commands.models import models
from pipelines.commands.replay import replay
from pipelines.commands.run import run
from pipelines.commands.tables import tables
from pipelines.commands.terminal import errors
from pipelines.config.options import add_to
from pipelines.logs import is_json
from pipelines.options import normalized


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="weighbridge-pipeline", message="weighbridge %(version)s")
def cli() -> None:
    """Weigh every model in traffic: from raw envelopes to tables and to Arize.

    Options may be written with hyphens or with underscores.
    """


_STORED = (failures, replay, compare, ledger, check, models, tables, arize)
for _command in (run, *_STORED, actuals, config, deploy):
    cli.add_command(_command)
add_to(cli)
cli.add_command(demo)  # takes nothing from a file: it must not write where traffic goes


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
        errors.print("Aborted. Run the same command again: it does what is still to be done.")
        return 130
    except click.ClickException as error:
        if is_json():
            errors.print(f"Error: {error.format_message()}", markup=False, soft_wrap=True)
        else:
            error.show()
        return 2
    except Exception as error:
        return _failed(error)
    return code if isinstance(code, int) else 0


def _failed(error: Exception) -> int:
    import sqlite3

    from pipelines.room import NoRoomError, want_of_room
    from schemas import ConfigurationError, RetriableError

    want = want_of_room(error)
    if want is not None and not isinstance(error, NoRoomError):
        error = NoRoomError(want)
    if isinstance(error, ConfigurationError):
        errors.print(f"Error: {error}", markup=False, soft_wrap=True)
        return 2
    # Of a file or a bucket; what extractors raise becomes dead letters.
    if isinstance(error, RetriableError | PermissionError):
        errors.print(f"Error: the run failed: {error}", markup=False, soft_wrap=True)
        return 1
    # Texts of foreign errors may quote payloads; classes, places and source lines do not.
    driver = getattr(error, "orig", None)  # of SQLAlchemy, whose own text quotes parameters
    told = error if isinstance(error, OSError) else driver
    text = f": {told}" if isinstance(told, OSError | sqlite3.DatabaseError) else ""
    for line in traceback.format_tb(error.__traceback__):
        errors.print(line.rstrip(), markup=False, soft_wrap=True)
    errors.print(
        f"Error: the run failed with {type(error).__name__}{text}", markup=False, soft_wrap=True
    )
    return 1
