"""What is asked before Beam launches on Dataflow, where it would wait for ever; its refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from pipelines.deploy.checks import check_names
from pipelines.deploy.reach import check_buckets
from pipelines.deploy.service import Jobs, refusals
from schemas import ConfigurationError, RetriableError


@contextmanager
def launching(name: str) -> Iterator[None]:
    """Raise what keeps Beam from launching a job as what is to be done about it.

    Args:
        name: of the job.
    """
    from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError

    with refusals():
        try:
            yield
        except DataflowJobAlreadyExistsError:
            raise ConfigurationError(
                f"a job {name} runs already, or another launch was faster; see what it is, and "
                "update it, or give another --job_name"
            ) from None
        except OSError as error:
            raise RetriableError(f"files cannot be staged ({type(error).__name__})") from None


def check_launch(options: PipelineOptions) -> None:
    """What `weighbridge run` asks: that buckets are there, and a job that shall be updated runs.

    Raises:
        ConfigurationError: one of them is not so; nothing was sent or created then.
        RetriableError: a service does not answer.
    """
    cloud = options.view_as(GoogleCloudOptions)
    # Without one Beam makes a name up.
    check_names(cloud.project or "", cloud.region or "", cloud.job_name or "weighbridge")
    places = [place for place in (cloud.staging_location, cloud.temp_location) if place]
    if not places:
        raise ConfigurationError(
            "--staging_location is missing: a folder as gs://my-bucket/dataflow"
        )
    jobs = Jobs(options)
    check_buckets(places, cloud.project, cloud.region, jobs.credentials)
    if cloud.update and jobs.active(cloud.job_name or "") is None:
        raise ConfigurationError(
            f"--update: no job {cloud.job_name} runs in {cloud.project}, {cloud.region}; leave "
            "--update out to begin one"
        )
