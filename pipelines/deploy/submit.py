"""Submits a job that was built, by Beam's own DataflowRunner, and never waits for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from pipelines.deploy.build import Built, beam_options, without_paths
from pipelines.deploy.guard import launching
from pipelines.deploy.settings import Settings
from schemas import RetriableError

SUBMIT_SECONDS = 600.0
"""For staging and submission together. Beam waits without end for some of what may go wrong."""


def submit(
    settings: Settings,
    built: Built,
    mapping: Mapping[str, str] | None,
) -> str:
    """Stage and submit what was built, by the DataflowRunner; the id of the job.

    Args:
        settings: of the job.
        built: what `build` gave.
        mapping: of an update, old to new names of steps; None for a new job.

    Raises:
        ConfigurationError: the service refuses it.
        RetriableError: it did not come to an end.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(_submit(settings, built, mapping))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True, name="weighbridge-submit")
    thread.start()
    thread.join(SUBMIT_SECONDS)
    if not outcome:
        raise RetriableError(
            f"submission did not end within {SUBMIT_SECONDS:g} s; see whether the job is there, "
            "and run the same command again"
        )
    [found] = outcome
    if isinstance(found, BaseException):
        raise found
    return str(found)


def _submit(settings: Settings, built: Built, mapping: Mapping[str, str] | None) -> Any:
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    # It logs the service's words, which `refusals` says.
    logging.getLogger("apache_beam.runners.dataflow").setLevel(logging.CRITICAL + 1)
    options = without_paths(beam_options(settings, mapping=mapping))
    with launching(settings.job_name):
        result = DataflowRunner().run_pipeline(None, options, pipeline_proto=built.graph)
    return result.job_id()
