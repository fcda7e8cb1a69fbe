"""The Dataflow service: the jobs of a project and region, and what may be asked of one."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from schemas import ConfigurationError, RetriableError

TIMEOUT_SECONDS = 30.0
LISTED_SECONDS = 60.0
POLL_SECONDS = 5.0
RUNNING, DRAINED, CANCELLED = ("RUNNING",), ("DRAINED",), ("CANCELLED",)
ENDED = frozenset({"DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED", "STOPPED"})
_STATE = "JOB_STATE_"


@dataclass(frozen=True)
class Job:
    """A job as the service describes it.

    Attributes:
        state: such as RUNNING, of the service's names without JOB_STATE_.
        pipeline_url: where its staged graph is, "" if that is not said.
    """

    id: str
    name: str
    state: str
    created: datetime | None
    pipeline_url: str = ""


class Jobs:
    """The jobs of one project in one region.

    Args:
        options: Beam's, with project, region, and the endpoint and credentials to use.

    Attributes:
        credentials: Google's, for other services, too.

    Raises:
        ConfigurationError: clients are not installed, or there are no credentials.
    """

    def __init__(self, options: PipelineOptions) -> None:
        cloud = options.view_as(GoogleCloudOptions)
        self._place = {"project_id": cloud.project, "location": cloud.region}
        self.credentials = _credentials(options)
        from google.api_core.client_options import ClientOptions
        from google.cloud.dataflow_v1beta3 import JobsV1Beta3Client

        # As the DataflowRunner does: REST only to this machine.
        here = "localhost" in cloud.dataflow_endpoint
        endpoint = cloud.dataflow_endpoint.rstrip("/")
        self._client = JobsV1Beta3Client(
            credentials=self.credentials,
            transport="rest" if here else None,
            client_options=ClientOptions(
                api_endpoint=endpoint if here else endpoint.rpartition("://")[2]
            ),
        )

    def active(self, name: str) -> Job | None:
        """The job of a name that has not ended.

        Beam looks for it without end if there is none, so that nothing may be updated unasked.
        """
        from google.cloud.dataflow_v1beta3 import ListJobsRequest

        request = ListJobsRequest(**self._place, filter=ListJobsRequest.Filter.ACTIVE, name=name)
        until = time.monotonic() + LISTED_SECONDS
        with refusals():
            for found in self._client.list_jobs(request, retry=None, timeout=TIMEOUT_SECONDS):
                job = _job(found)
                if job.name == name and job.state not in ENDED:
                    return self.get(job.id)
                if time.monotonic() > until:
                    raise RetriableError("Dataflow lists jobs for too long")
        return None

    def get(self, job_id: str) -> Job:
        """A job by its id, with where its graph is."""
        from google.cloud.dataflow_v1beta3 import GetJobRequest, JobView

        request = GetJobRequest(**self._place, job_id=job_id, view=JobView.JOB_VIEW_ALL)
        with refusals():
            return _job(self._client.get_job(request, retry=None, timeout=TIMEOUT_SECONDS))

    def request(self, job_id: str, state: str) -> None:
        """Ask for a job to become DRAINING or CANCELLED."""
        from google.cloud.dataflow_v1beta3 import Job as Described
        from google.cloud.dataflow_v1beta3 import JobState, UpdateJobRequest

        wanted = Described(requested_state=getattr(JobState, _STATE + state))
        request = UpdateJobRequest(**self._place, job_id=job_id, job=wanted)
        with refusals():
            self._client.update_job(request, retry=None, timeout=TIMEOUT_SECONDS)

    def wait(
        self,
        job_id: str,
        wanted: Collection[str],
        seconds: float,
        pause: Callable[[float], None] = time.sleep,
    ) -> str:
        """The state of a job once it is wanted, or it has ended, or the time is over."""
        until = time.monotonic() + seconds
        while True:
            state = self.get(job_id).state
            left = until - time.monotonic()
            if state in wanted or state in ENDED or left <= 0:
                return state
            pause(min(POLL_SECONDS, left))


def _job(found: Any) -> Job:
    from google.protobuf import json_format

    options = json_format.MessageToDict(type(found).pb(found).environment.sdk_pipeline_options)
    url = options.get("options", {}).get("pipelineUrl", "")
    state = found.current_state.name.removeprefix(_STATE)
    return Job(found.id, found.name, state, found.create_time, str(url))


def _credentials(options: PipelineOptions) -> Any:
    for module in ("google.cloud.dataflow_v1beta3", "google.cloud.storage", "google_auth_httplib2"):
        if not _installed(module):  # without the last of them Beam would go on as nobody
            raise ConfigurationError(
                f"Dataflow needs pip install 'weighbridge-pipeline[dataflow]': there is no {module}"
            )
    import google.auth
    from apache_beam.internal.gcp.auth import get_service_credentials
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import DefaultCredentialsError

    if options.view_as(GoogleCloudOptions).no_auth:
        return AnonymousCredentials()
    try:
        google.auth.default()  # Beam would look for some for 20 seconds, and go on without
        found = get_service_credentials(options)
    except DefaultCredentialsError:
        found = None
    if found is None:
        raise ConfigurationError(
            "no Google Cloud credentials: log in with `gcloud auth application-default login`"
        )
    return found.get_google_auth_credentials()


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what the service answers as what is to be done about it."""
    from google.api_core import exceptions as google

    with answering("Dataflow"):
        try:
            yield
        except (google.Forbidden, google.Unauthorized):
            raise ConfigurationError(
                "Dataflow refuses this account; enable the API, and grant it "
                "roles/dataflow.developer and roles/iam.serviceAccountUser on the workers' account"
            ) from None
        except google.TooManyRequests:
            raise
        except google.ClientError as error:
            raise ConfigurationError(f"Dataflow refuses: {error.message}") from None


@contextmanager
def answering(service: str) -> Iterator[None]:
    """Raise what is not about the request: a service that does not answer, or whose login fails."""
    from google.api_core import exceptions as google
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests.exceptions import RequestException

    passing = (google.ServerError, google.TooManyRequests, google.RetryError, RequestException)
    try:
        yield
    except passing as error:
        raise RetriableError(f"{service} does not answer ({type(error).__name__})") from None
    except TransportError:
        raise RetriableError("Google, which checks who we are, cannot be reached") from None
    except GoogleAuthError as error:
        raise ConfigurationError(
            f"Google's credentials are refused ({type(error).__name__}); run `gcloud auth "
            "application-default login`"
        ) from None
