"""What can be known of settings without asking anybody."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from extractors import Extractors
from pipelines.deploy.settings import Settings
from pipelines.options import RunOptions
from pipelines.runners import NO_CODE
from pipelines.secrets import Secret
from pipelines.spaces import DEFAULT_SPACE, space_named
from schemas import ConfigurationError

_PROJECT = re.compile(r"([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_REGION = re.compile(r"[a-z]+-[a-z]+[0-9]+")
_JOB_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
# As strict as Beam: where it likes none of them it makes a bucket of its own.
_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9]/[^?#*\[\]\s]*")
_IMAGE = re.compile(
    r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?"
)
_MACHINE = re.compile(r"[a-z][a-z0-9./-]*")
_ACCOUNT = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_SUBNETWORK = re.compile(
    r"(https://www\.googleapis\.com/compute/v1/)?(projects/[^/\s]+/)?regions/([^/\s]+)/subnetworks/"
    r"[^/\s]+"
)
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}")
_MAX_LABELS = 64
_NOT_ON_WORKERS = re.compile("PGPASSWORD|PYICEBERG_CATALOG__WEIGHBRIDGE__.*")
_PRIVATE = re.compile("secret|password|token|access_key|connection_string")
_RESERVED = {
    "runner": "this command is for Dataflow; other runners are named to `weighbridge run`",
    "streaming": "such a job always is",
    "template_location": "a flex template is made of the image",
    "dataflow_job_file": "--dry_run prints the job",
    "machine_type": "write --worker_machine_type",
    "label": "write --labels",
    "extra_packages": "write --extra_package",
    "worker_harness_container_image": "write --sdk_container_image",
    "number_of_worker_harness_threads": "write --worker_threads",
    "autoscaling_algorithm": "write --num_workers and --max_num_workers",
    "save_main_session": "nothing of a main session is needed",
    "requirements_file": "build the image with them, or name --extra_package",
}
"""Options of Beam that this command sets by itself, and what to do instead."""


def check(settings: Settings) -> None:
    """Refuse settings that cannot work, before anything is asked or sent.

    Raises:
        ConfigurationError: the first of them, with the remedy.
    """
    _check_beam(settings.beam_args)
    check_names(settings.project, settings.region, settings.job_name)
    _check_buckets(settings)
    _check_code(settings)
    _check_workers(settings)


def arize_secrets(extractors: Extractors, options: RunOptions) -> list[Secret]:
    """Where ids and keys of Arize are, none of them in a variable of this machine.

    Raises:
        ConfigurationError: workers would look for one there.
    """
    if options.no_arize:
        return []
    found = []
    for name in sorted({item.settings.arize_space for item in extractors.values() if item.pushed}):
        space = space_named(name, options.environment.spaces.values())
        for key, secret in (("api_key", space.api_key), ("space_id", space.id)):
            if secret.source == "env":
                shown = name or DEFAULT_SPACE
                raise ConfigurationError(
                    f"workers of Dataflow do not have the variable {secret.name}, which {key} of "
                    f"the space {shown} names: write in [env.….arize.spaces.{shown}] of "
                    f'weighbridge.toml {key} = {{ secret = "projects/P/secrets/S/versions/latest" '
                    "}, or give --no_arize"
                )
            found.append(secret)
    return list(dict.fromkeys(found))


def notes(settings: Settings) -> list[str]:
    """What is allowed, and should be known."""
    found = []
    image = settings.sdk_container_image
    if image and ("@" not in image) and (":" not in image.rpartition("/")[2]):
        found.append(f"--sdk_container_image {image} names no tag: workers take what is latest")
    if settings.setup_file:
        found.append(
            "--setup_file has each worker install everything when it starts: for trying out; name "
            "an --sdk_container_image otherwise"
        )
    if settings.streaming_mode == "at_least_once":
        found.append(
            "at least once: Dataflow may repeat elements. Iceberg tables still hold each row once; "
            "counters, and rows of BigQuery's own tables beneath the views, may be doubled"
        )
    variables = sorted(filter(_NOT_ON_WORKERS.fullmatch, os.environ))
    if variables:
        found.append(
            f"workers do not have {', '.join(variables)} of this machine; the image must, or a "
            "catalog that takes Google's own credentials (auth.type=google)"
        )
    return found


def _check_beam(words: Iterable[str]) -> None:
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and name in _RESERVED:
            raise ConfigurationError(f"--{name}: {_RESERVED[name]}")
        if word.startswith("--") and _PRIVATE.search(name):
            raise ConfigurationError(
                f"--{name}: options of a job are seen by all who may look at it; let the account "
                "of the workers do what this is for, or the image"
            )


def check_names(project: str, region: str, name: str) -> None:
    """Refuse project, region and job name that cannot be.

    Raises:
        ConfigurationError: the first of them, with the remedy.
    """
    if not project:
        raise ConfigurationError("--project is missing: the id of a project of Google Cloud")
    if project.isdigit():
        raise ConfigurationError(f"--project: {project} is a number; name the id of the project")
    if not _PROJECT.fullmatch(project):
        raise ConfigurationError(
            f"--project: {project} is no id of a project, which has 6 to 30 of a-z, 0-9 and -; it "
            "is not the name that is displayed"
        )
    if not region:
        raise ConfigurationError("--region is missing: such as europe-west1")
    if not _REGION.fullmatch(region):
        zone = _REGION.match(region)
        remedy = f"a zone; name its region, {zone[0]}" if zone else "no region as europe-west1 is"
        raise ConfigurationError(f"--region: {region} is {remedy}")
    if not _JOB_NAME.fullmatch(name):
        raise ConfigurationError(
            f"--job_name: {name} has not 1 to 63 of a-z, 0-9 and -, from a letter to a letter or "
            "digit"
        )


def _check_buckets(settings: Settings) -> None:
    if not settings.staging_location:
        raise ConfigurationError(
            "--staging_location is missing: a folder as gs://my-bucket/dataflow"
        )
    for name in ("staging_location", "temp_location"):
        value = getattr(settings, name)
        if not _BUCKET.fullmatch(value):
            raise ConfigurationError(f"--{name}: {value} is not of the form gs://BUCKET/PREFIX")


def _check_code(settings: Settings) -> None:
    image, setup = settings.sdk_container_image, settings.setup_file
    if not image and not setup:
        raise ConfigurationError(NO_CODE)
    if image and setup:
        raise ConfigurationError(
            "--sdk_container_image and --setup_file: name one of them; what an image lacks is "
            "staged with --extra_package"
        )
    if image and not _IMAGE.fullmatch(image):
        raise ConfigurationError(
            f"--sdk_container_image: {image} is not of the form HOST/PATH:TAG, as "
            "europe-west1-docker.pkg.dev/my-project/weighbridge/worker:0.1.0"
        )
    if setup and Path(setup).name not in ("setup.py", "pyproject.toml"):
        raise ConfigurationError(f"--setup_file: {setup} is no setup.py and no pyproject.toml")
    if setup and not Path(setup).is_file():
        raise ConfigurationError(f"--setup_file: there is no file {setup}")
    for path in settings.packages:
        if not path.is_file():
            raise ConfigurationError(f"--extra_package: there is no file {path}")
        if not path.name.endswith((".tar.gz", ".whl")):
            raise ConfigurationError(
                f"--extra_package: {path} is no .tar.gz and no .whl; `python -m build` makes them"
            )


def _check_workers(settings: Settings) -> None:
    if settings.num_workers > settings.max_num_workers:
        raise ConfigurationError(
            f"--num_workers {settings.num_workers} is more than --max_num_workers "
            f"{settings.max_num_workers}"
        )
    machine = settings.worker_machine_type
    if machine and not _MACHINE.fullmatch(machine):
        raise ConfigurationError(
            f"--worker_machine_type: {machine} is no type of machine as n2d-standard-2 is"
        )
    account, network = settings.service_account_email, settings.subnetwork
    if account and not _ACCOUNT.fullmatch(account):
        raise ConfigurationError(f"--service_account_email: {account} is no address of an account")
    if network:
        found = _SUBNETWORK.fullmatch(network)
        if not found:
            raise ConfigurationError(
                f"--subnetwork: {network} is not of the form regions/REGION/subnetworks/NAME"
            )
        if found[3] != settings.region:
            raise ConfigurationError(
                f"--subnetwork is in {found[3]}, and --region is {settings.region}"
            )
    for label in settings.labels:
        if not _LABEL.fullmatch(label):
            raise ConfigurationError(
                f"--labels: {label} is not of the form KEY=VALUE, of up to 63 of a-z, 0-9, - and _ "
                "each; a key begins with a letter"
            )
    if len(settings.labels) > _MAX_LABELS:
        raise ConfigurationError(f"--labels: a job takes {_MAX_LABELS} of them")
