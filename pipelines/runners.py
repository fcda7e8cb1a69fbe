"""Which of Beam's runners is named, and whether its workers are on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from pipelines.options import RunOptions
from schemas import ConfigurationError

NO_CODE = (
    "workers would have neither Weighbridge nor extractors: name an --sdk_container_image that has "
    "them, or for trying out --setup_file=./setup.py"
)
"""Dataflow takes such a job, and its workers find out."""
_HERE = {
    "BundleBasedDirectRunner",
    "DirectRunner",
    "FnApiRunner",
    "InteractiveRunner",
    "PrismRunner",
    "SwitchingDirectRunner",
}


def runs_in_memory(beam_args: Sequence[str]) -> bool:
    """Whether Beam's own in-memory runner is wanted, which `LocalGraph` uses directly."""
    given = PipelineOptions(list(beam_args))
    mode = given.view_as(DirectOptions).direct_running_mode
    return names_direct_runner(given) and mode in (None, "in_memory")


def names_direct_runner(options: PipelineOptions) -> bool:
    """Whether the DirectRunner is named, or none."""
    return options.view_as(StandardOptions).runner in (None, "", "DirectRunner")


def named_runner(options: PipelineOptions) -> str:
    """The name of the runner's class, without its module."""
    return str(options.view_as(StandardOptions).runner or "DirectRunner").rpartition(".")[2]


def check_reachable(options: RunOptions) -> None:
    """See that workers of other machines reach all that they need.

    Raises:
        ConfigurationError: something is on this machine only, or workers of Dataflow would have no
            code, with the remedy; or Beam has no runner of that name.
    """
    given = PipelineOptions(list(options.beam_args))
    runner = named_runner(given)
    named = given.view_as(StandardOptions).runner or runner
    known = StandardOptions.KNOWN_RUNNER_NAMES
    if "." not in named and named not in known:
        raise ConfigurationError(f"--runner: Beam has no {named}; it has {', '.join(known)}")
    if _is_here(runner, given):
        return
    missing = options.needs_this_machine()
    if missing:
        raise ConfigurationError(
            f"workers of the {runner} do not reach {missing}; name a --home on an object store, "
            "such as gs://my-bucket/weighbridge, and a --catalog_uri of a catalog with a "
            "--warehouse that they reach, or --tables bigquery"
        )
    if runner == "DataflowRunner" and not _has_code(given):
        raise ConfigurationError(NO_CODE)


def _has_code(given: PipelineOptions) -> bool:
    worker, setup = given.view_as(WorkerOptions), given.view_as(SetupOptions)
    image = worker.sdk_container_image or worker.worker_harness_container_image
    return bool(image or setup.setup_file or setup.extra_packages)


def _is_here(runner: str, given: PipelineOptions) -> bool:
    if runner in _HERE:
        return True
    portable = given.view_as(PortableOptions)
    if portable.environment_type == "LOOPBACK":
        return True
    if runner == "FlinkRunner":
        master = given.view_as(FlinkRunnerOptions).flink_master
        return master in ("[local]", "[auto]", "[collection]") or _is_local(master)
    if runner == "PortableRunner":
        return portable.job_endpoint == "embed" or _is_local(portable.job_endpoint)
    return False


def _is_local(address: Any) -> bool:
    text = str(address or "")
    host = urlsplit(text if "://" in text else f"//{text}").hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
