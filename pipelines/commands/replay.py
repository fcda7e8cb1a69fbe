"""`weighbridge replay`."""

from __future__ import annotations

from typing import Any

import click

from pipelines.commands.terminal import console, quiet_imports
from pipelines.moments import SELECTION_PARAMETERS, check_span
from pipelines.options import RUN_PARAMETERS, RUN_SETTINGS, run_defaults, run_options
from pipelines.selection import Selection

ANY_GROUP = "all"
_OTHER_INPUT = {
    *("input_files", "input_subscription", "follow", "exit_when_idle", "streaming"),
    *("commit_interval", "archive_age", "archive_bytes"),
}
PARAMETERS: list[click.Parameter] = [
    click.Option(
        ["--failures"],
        is_flag=False,
        flag_value=ANY_GROUP,
        metavar="[GROUP]",
        help="Dead letters; of a group, as `weighbridge failures` names it.",
    ),
    click.Option(["--parked"], is_flag=True, help="Parked messages."),
    click.Option(
        ["--archive"],
        default="",
        metavar="GLOB",
        help="Archive files, ** for any depth; a folder means all in it.",
    ),
    *SELECTION_PARAMETERS,
    click.Option(
        ["--rewrite"],
        is_flag=True,
        help="Replace the rows of these envelopes by those of today's extractor.",
    ),
    click.Option(
        ["--dry_run"], is_flag=True, help="Say what would be read and changed; change nothing."
    ),
    *(item for item in RUN_PARAMETERS if item.name not in _OTHER_INPUT),
]


def _replay(
    failures: str | None,
    parked: bool,
    archive: str,
    model: str,
    since: int | None,
    until: int | None,
    rewrite: bool,
    dry_run: bool,
    **parameters: Any,
) -> None:
    """Run stored envelopes again: dead letters, parked messages, archive files.

    With --model alone, the model's dead letters and parked messages. It adds what is missing, and
    marks what succeeded; twice changes nothing. Options of Apache Beam pass through.
    """
    check_span(since, until)
    if failures is None and not parked and not archive:
        if not model:
            raise click.UsageError(
                "say what to run again: --model ID for its dead letters and parked messages, or "
                "--failures, --parked or --archive GLOB"
            )
        failures, parked = ANY_GROUP, True
    if rewrite and not archive:
        raise click.UsageError("--rewrite replaces rows by those of --archive GLOB; add that")
    group = "" if failures in (None, ANY_GROUP) else failures
    if group and (parked or archive):
        raise click.UsageError("a group is of dead letters; drop --parked and --archive")
    with quiet_imports():
        from pipelines.replay.plan import Sources
        from pipelines.replay.show import run_and_show
    selection = Selection(model, since, until, group)
    options = run_options(
        {
            **run_defaults(),
            **parameters,
            "input_files": archive or "stored messages",
            "selection": selection,
            "rewrite": rewrite,
        },
        click.get_current_context().args,
    )
    sources = Sources(failures=failures is not None, parked=parked, archive=archive)
    run_and_show(console, options, sources, dry_run)


replay = click.Command(
    "replay",
    callback=_replay,
    params=PARAMETERS,
    context_settings=RUN_SETTINGS,
    help=_replay.__doc__,
    short_help="Run stored envelopes again.",
)
