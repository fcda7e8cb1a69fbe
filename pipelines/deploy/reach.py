"""Asks Google Cloud, before anything is sent, whether buckets and the subscription are there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pipelines.deploy.service import answering
from pipelines.secrets import Secret, SecretMissing
from schemas import ConfigurationError, RetriableError

TIMEOUT_SECONDS = 15.0
"""For one question. Beam itself would ask for a bucket that is not there for minutes."""


def check_buckets(places: Iterable[str], project: str, region: str, credentials: Any) -> None:
    """See that the bucket of each gs:// place is there.

    Args:
        places: places of any kind.
        project: as of the job.
        region: as of the job, for the remedy.
        credentials: Google's.

    Raises:
        ConfigurationError: one is not there, or may not be looked at.
        RetriableError: Cloud Storage does not answer.
    """
    from google.api_core import exceptions as google
    from google.cloud import storage

    found = (place[5:].partition("/")[0] for place in places if place.startswith("gs://"))
    client = storage.Client(project=project, credentials=credentials)
    for name in dict.fromkeys(found):
        try:
            with answering("Cloud Storage"):
                client.get_bucket(name, timeout=TIMEOUT_SECONDS, retry=None)
        except google.NotFound:
            raise ConfigurationError(
                f"there is no bucket gs://{name}; create it: gcloud storage buckets create "
                f"gs://{name} --project={project} --location={region}"
            ) from None
        except (google.Forbidden, google.Unauthorized):
            raise ConfigurationError(
                f"this account may not look at gs://{name}, as staging files there needs; grant it "
                "roles/storage.objectAdmin and roles/storage.legacyBucketReader on the bucket"
            ) from None


def check_subscription(name: str, credentials: Any) -> str:
    """See that a subscription is there, and can be pulled from.

    Args:
        name: "projects/P/subscriptions/S".
        credentials: Google's.

    Returns:
        What should be known, "" if nothing.

    Raises:
        ConfigurationError: it is not there, or pushes.
    """
    from google.api_core import exceptions as google

    try:
        with answering("Pub/Sub"), _subscriber(credentials) as client:
            found = client.get_subscription(subscription=name, timeout=TIMEOUT_SECONDS, retry=None)
    except google.NotFound:
        raise ConfigurationError(
            f"--input_subscription: there is no {name}; see `gcloud pubsub subscriptions list`"
        ) from None
    except (google.Forbidden, google.Unauthorized):
        return (
            f"this account may not look at {name}, so that it was not checked; the workers' needs "
            "roles/pubsub.subscriber and roles/pubsub.viewer"
        )
    except RetriableError as error:
        return f"{error}, so that {name} was not checked"
    exports = (found.push_config.push_endpoint, found.bigquery_config, found.cloud_storage_config)
    if any(exports):
        raise ConfigurationError(
            f"--input_subscription: {name} pushes, or exports; make one to pull from"
        )
    if found.enable_exactly_once_delivery:
        return (
            f"{name} has exactly-once delivery, which makes it slower and Dataflow does not use; "
            "make one without"
        )
    return ""


def check_secrets(secrets: Iterable[Secret]) -> list[str]:
    """See that secrets are there.

    Returns:
        What should be known of those that cannot be read from here; workers may read them.

    Raises:
        ConfigurationError: one is not there.
    """
    told = []
    for secret in secrets:
        try:
            secret.value()
        except SecretMissing:
            raise
        except (ConfigurationError, ConnectionError) as error:
            told.append(f"not read from here: {error}")
    return told


def _subscriber(credentials: Any) -> Any:
    from google.pubsub_v1 import SubscriberClient

    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if not emulator:
        return SubscriberClient(credentials=credentials)
    import grpc

    kind = SubscriberClient.get_transport_class("grpc")
    return SubscriberClient(transport=kind(channel=grpc.insecure_channel(emulator)))
