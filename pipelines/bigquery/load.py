"""One job for a list of files, however often it is asked for: its id holds the list's token."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import google.cloud.bigquery as bigquery
from google.api_core import exceptions as google

from pipelines.bigquery.access import QUOTA, at_work
from schemas import RetriableError

ATTEMPTS = 3
"""Jobs that one call begins where they fail for a passing reason."""
_PASSING = {"backendError", "internalError", "jobBackendError", "jobInternalError", "stopped"}
_REFUSED: dict[str, type[Exception]] = {
    "accessDenied": PermissionError,
    "notFound": FileNotFoundError,
}


def job_id_of(table: bigquery.Table, token: str) -> str:
    """Id of the job that loads the files of a token into a table.

    With the time of the table's creation: job ids outlive tables, and one that was made anew holds
    nothing of what the old one did.
    """
    created = int(table.created.timestamp() * 1000)
    return f"weighbridge-{table.dataset_id}-{table.table_id}-{created}-{token}"


def load_once(
    client: bigquery.Client,
    table: bigquery.Table,
    job_id: str,
    uris: list[str],
    announce: Callable[[], None],
) -> bool:
    """Load files into a table unless that was done, or is under way, under the same id.

    Args:
        client: for the table's project.
        table: as BigQuery describes it now.
        job_id: see `job_id_of`.
        uris: the files.
        announce: called before a job is begun.

    Returns and raises: as of `run_once`.
    """
    begin = partial(begin_load, client, table, uris)
    return run_once(client, job_id, table.location, begin, announce)


def run_once(
    client: bigquery.Client,
    job_id: str,
    location: str | None,
    begin: Callable[[str], Any],
    announce: Callable[[], None],
) -> bool:
    """Run a job to its end unless that was done, or is under way, under the same id.

    A job that failed keeps its id: the next attempt is `<id>-2`, and so on.

    Args:
        client: for the job's project.
        job_id: its id.
        location: where it runs.
        begin: begins the job of an id.
        announce: called before a job is begun.

    Returns:
        Whether this call began the job that succeeded.

    Raises:
        RetriableError: BigQuery fails, or has had enough for now.
        PermissionError, FileNotFoundError, ValueError: it refuses the job for good.
    """
    begun = 0
    for attempt in count(1):
        name = _attempt(job_id, attempt)
        with at_work(f"job {name}"):
            job, ours = _find(client, name, location), False
            if job is None:
                announce()
                job, ours = _begin(client, name, location, begin)
            reason = _outcome(job)
        begun += ours
        if reason is None:
            return ours
        if not ours:
            continue  # an earlier attempt, of whoever made it
        if reason in QUOTA or (reason in _PASSING and begun == ATTEMPTS):
            raise RetriableError(f"job {name} failed: {reason}; try again later")
        if reason not in _PASSING:
            error = _REFUSED.get(reason, ValueError)
            raise error(f"job {name} failed: {reason}; `bq show -j` says more of it")
        time.sleep(random.uniform(0, 2**begun))
    raise AssertionError("attempts do not end")


def is_loaded(client: bigquery.Client, job_id: str, location: str | None) -> bool:
    """Whether an attempt of a job has loaded its files; false too while it is under way."""
    for attempt in count(1):
        name = _attempt(job_id, attempt)
        with at_work(f"job {name}"):
            job = _find(client, name, location)
        if job is None or job.state != "DONE":
            return False
        if job.error_result is None:
            return True
    raise AssertionError("attempts do not end")


def wait_for_loads(client: bigquery.Client, table: bigquery.Table) -> None:
    """Wait for the load jobs of a table that are under way, as far as this account began them."""
    begun = job_id_of(table, "")
    for state in ("pending", "running"):
        with at_work(f"load jobs of {table.table_id}"):
            for job in client.list_jobs(state_filter=state):
                if job.job_id.startswith(begun):
                    _outcome(job)


def _attempt(job_id: str, attempt: int) -> str:
    return job_id if attempt == 1 else f"{job_id}-{attempt}"


def _find(client: bigquery.Client, name: str, location: str | None) -> Any:
    try:
        return client.get_job(name, location=location)
    except google.NotFound:
        return None


def _begin(
    client: bigquery.Client, name: str, location: str | None, begin: Callable[[str], Any]
) -> tuple[Any, bool]:
    try:
        return begin(name), True
    except google.Conflict:  # a twin was faster, or the answer to our own request was lost
        return client.get_job(name, location=location), False


def begin_load(
    client: bigquery.Client, table: bigquery.Table, uris: list[str], name: str
) -> bigquery.LoadJob:
    """Begin the load job of an id."""
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
    )
    # Else a list becomes a record that holds a list.
    parquet: Any = bigquery.ParquetOptions.from_api_repr({"enableListInference": True})
    config.parquet_options = parquet
    return client.load_table_from_uri(
        uris, table.reference, job_id=name, location=table.location, job_config=config
    )


def _outcome(job: Any) -> str | None:
    """Wait for a job; None if it loaded its files, else BigQuery's word for why not."""
    try:
        job.result()
    except google.GoogleAPICallError:
        if job.error_result is None:
            raise
        return str(job.error_result.get("reason"))
    return None
