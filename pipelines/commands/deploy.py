"""`weighbridge deploy`."""

from __future__ import annotations

from typing import Any

import click

from pipelines.commands.terminal import console, errors, quiet_imports
from pipelines.config.options import environment
from pipelines.deploy.settings import PARAMETERS, Settings
from pipelines.options import RUN_SETTINGS, check_beam_args, run_defaults, run_options


@click.group()
def deploy() -> None:
    """Run the pipeline elsewhere than on this machine."""


def _dataflow(
    update: bool,
    drain: bool,
    cancel: bool,
    dry_run: bool,
    yes: bool,
    replay_parked: bool,
    wait: float,
    **parameters: Any,
) -> None:
    """Launch the pipeline as a streaming job on Dataflow, or update the one that runs.

    It checks every setting, shows what would change beside the running job, creates and evolves
    tables, submits, waits until the job runs, and names models with parked envelopes. What stands
    in [env.NAME] of weighbridge.toml need not be given; options of Apache Beam pass through. Exit
    status: 0 done, 1 the job does not run or a service does not answer, 2 wrong usage or
    configuration, and nothing was sent.
    """
    if sum((update, drain, cancel)) > 1:
        raise click.UsageError("--update, --drain and --cancel: give one of them")
    if (drain or cancel) and (dry_run or replay_parked):
        raise click.UsageError("--dry_run and --replay_parked are for a launch; drop them")
    if replay_parked and not wait:
        raise click.UsageError("--replay_parked waits until the job runs; drop --wait 0s")
    with quiet_imports():
        from pipelines.deploy.end import end
        from pipelines.deploy.launch import Wanted, launch
        from pipelines.deploy.talk import Talk
    words = click.get_current_context().args
    check_beam_args(words, PARAMETERS, "deploy dataflow")
    settings = Settings.of(parameters, words, environment().name)
    talk = Talk(errors if dry_run else console, settings, yes, wait)
    if drain or cancel:
        end(talk, drain)
        return
    if not parameters["input_subscription"]:
        raise click.UsageError(
            "--input_subscription is missing: projects/P/subscriptions/S of Pub/Sub"
        )
    own = {name: value for name, value in parameters.items() if name in run_defaults()}
    options = run_options({**run_defaults(), **own, "streaming": True}, settings.arguments())
    launch(talk, console, options, Wanted(update, dry_run, replay_parked))


deploy.add_command(
    click.Command(
        "dataflow",
        callback=_dataflow,
        params=PARAMETERS,
        context_settings=RUN_SETTINGS,
        help=_dataflow.__doc__,
        short_help="Launch, update or end a job on Dataflow.",
    )
)
