"""Launches or updates a job, and says what happens in order."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from pipelines.deploy.build import beam_options, build
from pipelines.deploy.checks import arize_secrets, check, notes
from pipelines.deploy.parked import replay_ready, show_ready
from pipelines.deploy.plan import plan_of, print_plan
from pipelines.deploy.reach import check_buckets, check_secrets, check_subscription
from pipelines.deploy.record import read_staged, record_of
from pipelines.deploy.service import RUNNING, Job, Jobs
from pipelines.deploy.settings import Settings
from pipelines.deploy.submit import submit
from pipelines.deploy.talk import Talk
from pipelines.main import prepare_tables
from pipelines.options import RunOptions
from pipelines.runners import check_reachable
from schemas import ConfigurationError


@dataclass(frozen=True)
class Wanted:
    """What is done beside launching.

    Attributes:
        update: whether a job must be running.
        dry_run: whether nothing is sent.
        replay_parked: whether parked envelopes are run again in the end.
    """

    update: bool = False
    dry_run: bool = False
    replay_parked: bool = False


def launch(talk: Talk, output: Console, options: RunOptions, wanted: Wanted) -> None:
    """Check, show the plan, prepare tables, submit, wait, and name what is parked.

    Args:
        talk: the terminal.
        output: takes the job of a dry run, and reports of replays.
        options: of the pipeline.
        wanted: what is to be done.

    Raises:
        ConfigurationError: anything that cannot work; nothing was sent then.
        RetriableError: a service does not answer.
        click.exceptions.Exit: 1, the job does not come to run.
    """
    settings = talk.settings
    check(settings)
    check_reachable(options)
    extractors = options.load()
    secrets = arize_secrets(extractors, options)
    built = build(settings, options, extractors, record_of(settings, options, extractors))
    jobs = Jobs(beam_options(settings))
    told = [*notes(settings), *check_secrets(secrets), *_asked(settings, options, jobs)]
    running = _running(settings, jobs, wanted)
    before = read_staged(running.pipeline_url) if running and running.pipeline_url else None
    plan = plan_of(settings, built.record, running, before)
    print_plan(talk.console, plan)
    for note in told:
        talk.say(f"note: {note}")
    if wanted.dry_run:
        output.print(built.json(), markup=False, soft_wrap=True)
        return
    if running is not None:
        talk.confirm(f"update job {running.id}?")
    prepare_tables(extractors, options, talk)
    job_id = submit(settings, built, None if running is None else plan.mapping)
    talk.say(f"submitted {job_id}: {talk.url(job_id)}")
    talk.await_state(jobs, job_id, RUNNING)
    models = show_ready(talk, options, extractors)
    if wanted.replay_parked:
        replay_ready(output, talk, options, models)
    elif models:
        talk.say("to bring them in: the same command with --replay_parked")


def _asked(settings: Settings, options: RunOptions, jobs: Jobs) -> list[str]:
    places = settings.staging_location, settings.temp_location, str(options.home)
    more = options.warehouse, options.staging
    check_buckets((*places, *more), settings.project, settings.region, jobs.credentials)
    note = check_subscription(options.input_subscription, jobs.credentials)
    return [note] if note else []


def _running(settings: Settings, jobs: Jobs, wanted: Wanted) -> Job | None:
    running = jobs.active(settings.job_name)
    if running is None and wanted.update:
        raise ConfigurationError(
            f"--update: no job {settings.job_name} runs in {settings.project}, {settings.region}; "
            "leave --update out to begin one"
        )
    if running is not None and running.state != "RUNNING":
        raise ConfigurationError(
            f"job {running.id} is {running.state}, and can be neither updated nor begun anew; wait "
            "until that is over"
        )
    return running
