"""Drains or cancels the running job."""

from __future__ import annotations

from pipelines.deploy.build import beam_options
from pipelines.deploy.checks import check_names
from pipelines.deploy.service import CANCELLED, DRAINED, Jobs
from pipelines.deploy.talk import Talk
from schemas import ConfigurationError


def end(talk: Talk, drain: bool) -> None:
    """End the job of the name in the settings.

    Args:
        talk: the terminal.
        drain: whether it commits what it has read before.

    Raises:
        ConfigurationError: none runs.
        RetriableError: the service does not answer.
        click.exceptions.Exit: 1, it has not ended in time.
    """
    settings = talk.settings
    check_names(settings.project, settings.region, settings.job_name)
    jobs = Jobs(beam_options(settings))
    running = jobs.active(settings.job_name)
    if running is None:
        raise ConfigurationError(
            f"no job {settings.job_name} runs in {settings.project}, {settings.region}"
        )
    if drain:
        talk.say("a drain loses nothing: what was read is committed, then the job ends")
    else:
        talk.say(
            "a cancel loses what was read and is not committed, of up to a commit interval; replay "
            "it from the archive"
        )
    talk.confirm(f"{'drain' if drain else 'cancel'} job {running.id}?")
    jobs.request(running.id, "DRAINING" if drain else "CANCELLED")
    talk.say(f"{'draining' if drain else 'cancelling'} {running.id}: {talk.url(running.id)}")
    talk.await_state(jobs, running.id, DRAINED if drain else CANCELLED)
