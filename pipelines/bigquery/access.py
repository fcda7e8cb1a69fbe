"""Clients of Google's services, and what their refusals mean to whoever runs the pipeline."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import google.cloud.bigquery as bigquery
from google.api_core import exceptions as google
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import (
    DefaultCredentialsError,
    GoogleAuthError,
    InvalidOperation,
    RefreshError,
)
from requests.exceptions import RequestException

from pipelines.bigquery.names import Dataset
from schemas import ConfigurationError, RetriableError

QUOTA = {"quotaExceeded", "rateLimitExceeded"}
"""Reasons of an HTTP status 403 that is no lack of permission."""
_ROLES = (
    "grant it roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"
)
# A session keeps ten connections, and warns of each beyond, which it opens and closes.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def bigquery_client(project: str) -> bigquery.Client:
    """A client; BIGQUERY_EMULATOR_HOST leads it to an emulator, which asks for no credentials.

    Raises:
        ConfigurationError: there are no credentials.
    """
    emulated = "BIGQUERY_EMULATOR_HOST" in os.environ
    with credentials_needed():
        return bigquery.Client(project, AnonymousCredentials() if emulated else None)


@contextmanager
def credentials_needed() -> Iterator[None]:
    """Say what to do where Google's libraries find no credentials."""
    try:
        yield
    except DefaultCredentialsError:
        raise ConfigurationError(
            "no Google credentials were found; run `gcloud auth application-default login`, or "
            "name a key file in GOOGLE_APPLICATION_CREDENTIALS"
        ) from None


@contextmanager
def at_launch(what: str, missing: str, roles: str) -> Iterator[None]:
    """Make configuration errors of refusals: the one who launches can mend them.

    Args:
        what: what is asked for, such as "--dataset p.d".
        missing: the remedy where it is not there.
        roles: the remedy where it may not be used.
    """
    try:
        yield
    except google.NotFound:
        raise ConfigurationError(f"{what} is not there; {missing}") from None
    except google.Forbidden as error:
        if reason_of(error) in QUOTA:
            raise _retriable(error) from None
        raise ConfigurationError(f"{what} may not be used by this account; {roles}") from None
    except _UNAUTHORIZED:
        raise ConfigurationError(f"{what}: Google refuses the credentials; renew them") from None
    except google.BadRequest as error:
        raise ConfigurationError(f"{what} is refused: {reason_of(error)}") from None
    except _PASSING as error:
        raise _retriable(error) from None


@contextmanager
def dataset_needed(dataset: Dataset) -> Iterator[None]:
    """Make configuration errors of a dataset that is not there, or not for us."""
    create = f"create it, e.g. `bq mk --dataset {dataset.project}:{dataset.name}`"
    with at_launch(f"--dataset {dataset}", create, _ROLES):
        yield


@contextmanager
def at_work(what: str) -> Iterator[None]:
    """Raise what stays refused as built-in errors, and what may pass as `RetriableError`.

    The texts of Google's errors can quote rows, and are left out.
    """
    try:
        yield
    except google.NotFound:
        raise FileNotFoundError(f"{what}: not there") from None
    except google.Forbidden as error:
        if reason_of(error) in QUOTA:
            raise _retriable(error) from None
        raise PermissionError(f"{what}: not allowed") from None
    except _UNAUTHORIZED:
        raise PermissionError(f"{what}: the credentials are refused") from None
    except google.BadRequest as error:
        raise ValueError(f"{what}: refused, {reason_of(error)}") from None
    except _PASSING as error:
        raise _retriable(error) from None


def reason_of(error: google.GoogleAPICallError) -> str:
    """BigQuery's word for what is wrong, such as `accessDenied`, else the kind of the error."""
    details: list[Any] = list(error.errors)
    reason = details[0].get("reason") if details and isinstance(details[0], dict) else None
    return str(reason or type(error).__name__)


_UNAUTHORIZED = (google.Unauthorized, RefreshError, InvalidOperation)
_PASSING = (google.GoogleAPICallError, google.RetryError, GoogleAuthError, RequestException)


def _retriable(error: Exception) -> RetriableError:
    if isinstance(error, google.GoogleAPICallError):
        return RetriableError(f"Google answers {reason_of(error)}; try again later")
    return RetriableError(f"Google cannot be reached ({type(error).__name__}); try again later")
