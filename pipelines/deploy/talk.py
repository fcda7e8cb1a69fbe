"""What a command on a job says and asks, and how it waits."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass

import click
from rich.console import Console

from pipelines.deploy.service import ENDED, Jobs
from pipelines.deploy.settings import Settings
from pipelines.display import Display
from schemas import ConfigurationError


@dataclass
class Talk(Display):
    """The terminal.

    Args:
        console: takes lines.
        settings: of the job.
        yes: whether nothing is asked.
        wait: seconds that a job may take to change its state; 0 for not waiting.
    """

    console: Console
    settings: Settings
    yes: bool = False
    wait: float = 600.0

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, markup=False, soft_wrap=True)

    def confirm(self, question: str) -> None:
        """Ask whether to go on.

        Raises:
            click.Abort: the answer is no.
            ConfigurationError: nobody can be asked.
        """
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise ConfigurationError(f"{question} Give --yes where nobody can be asked")
        click.confirm(question, abort=True)

    def await_state(self, jobs: Jobs, job_id: str, wanted: Collection[str]) -> None:
        """Wait until a job is in one of the states.

        Raises:
            click.exceptions.Exit: 1, it ended otherwise, or did not come to it in time.
        """
        if not self.wait:
            return
        state = jobs.wait(job_id, wanted, self.wait)
        self.say(f"{job_id} is {state}")
        if state not in wanted:
            why = "it has ended" if state in ENDED else f"not so after {self.wait:g} s of --wait"
            self.say(f"it should be {' or '.join(wanted)}: {why}; its page says more")
            raise click.exceptions.Exit(1)

    def url(self, job_id: str) -> str:
        """The page of a job."""
        place = f"{self.settings.region}/{job_id}?project={self.settings.project}"
        return f"https://console.cloud.google.com/dataflow/jobs/{place}"
