"""Builds the job by a dry run of Beam's own DataflowRunner: what is shown, checked and sent."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    TestOptions,
)
from apache_beam.portability.api import beam_runner_api_pb2

from extractors import Extractors
from pipelines.deploy.record import KEY, Record, recorded
from pipelines.deploy.settings import Settings
from pipelines.options import RunOptions
from pipelines.stream import ReadSubscription, build_stream
from schemas import ConfigurationError


@dataclass
class Built:
    """A job that was not sent.

    Attributes:
        job: as Beam's client describes it.
        record: what it runs.
    """

    job: Any
    record: Record

    @property
    def graph(self) -> beam_runner_api_pb2.Pipeline:
        """The graph, with the files that are to be staged."""
        graph: beam_runner_api_pb2.Pipeline = self.job.proto_pipeline
        return graph

    def packages(self) -> dict[str, str]:
        """Path of each distribution that is to be staged, by its name there."""
        found = {}
        for environment in self.graph.components.environments.values():
            for file in environment.dependencies:
                role = beam_runner_api_pb2.ArtifactStagingToRolePayload
                payload = beam_runner_api_pb2.ArtifactFilePayload
                name = role.FromString(file.role_payload).staged_name
                found[name] = payload.FromString(file.type_payload).path
        return found

    def json(self) -> str:
        """The job as it would be sent, but for the folder that it is staged in."""
        from apache_beam.runners.dataflow.internal import apiclient

        self.job.options.view_as(TestOptions).dry_run = False
        without_paths(self.job.options)
        environment = apiclient.Environment(
            sorted(self.packages()), self.job.options, "8", "", self.graph
        )
        self.job.proto.environment = environment.proto
        return json.dumps(json.loads(self.job.json()), indent=2, sort_keys=True)


def beam_options(
    settings: Settings, *more: str, mapping: Mapping[str, str] | None = None
) -> PipelineOptions:
    """Beam's options of the job; `mapping` as of `Settings.arguments`."""
    found = PipelineOptions([*settings.arguments(mapping), *more])
    found.view_as(StandardOptions).streaming = True
    return found


def without_paths(options: PipelineOptions) -> PipelineOptions:
    """The options without files of this machine, once the graph names what was built of them."""
    setup = options.view_as(SetupOptions)
    setup.setup_file = setup.extra_packages = None
    return options


def build(settings: Settings, options: RunOptions, extractors: Extractors, record: Record) -> Built:
    """Build the job, and send nothing.

    Raises:
        ConfigurationError: Beam refuses it, or workers would lack a package.
    """
    for path in settings.packages:
        set(_modules(path))
    try:
        pipeline = beam.Pipeline(
            options=beam_options(settings, "--dry_run=True"), display_data={KEY: record.to_json()}
        )
    except ValueError as error:
        raise ConfigurationError(f"Beam refuses the options: {error}") from None
    messages = pipeline | "ReadSubscription" >> ReadSubscription(options.input_subscription)
    build_stream(messages, extractors, options, options.commit_interval)
    try:
        result: Any = pipeline.run()
    except (RuntimeError, ValueError) as error:
        if "CalledProcessError" in str(error):  # Beam quotes its own traceback
            raise ConfigurationError(
                f"--setup_file: {settings.setup_file} cannot be built; what the build said is above"
            ) from None
        raise ConfigurationError(f"the job cannot be built: {error}") from None
    found = recorded(result.job.proto_pipeline)
    assert found is not None
    built = Built(result.job, found)
    if settings.setup_file:
        _check_packages(built, options)
    return built


def _check_packages(built: Built, options: RunOptions) -> None:
    there = {name for path in built.packages().values() for name in _modules(Path(path))}
    needed = {
        "pipelines": "Weighbridge",
        options.extractors_package.partition(".")[0]: "the extractors",
    }
    if options.catalog_uri.startswith("postgres"):  # neither Beam nor we install it
        needed["psycopg"] = "the driver of --catalog_uri"
    for name, what in needed.items():
        if name not in there:
            raise ConfigurationError(
                f"workers would not have the package {name}, with {what}: it is not in what "
                "--setup_file builds; name the distribution that has it with --extra_package, or "
                "an --sdk_container_image instead"
            )


def _modules(path: Path) -> Iterator[str]:
    """Names of the packages in a distribution."""
    names: list[str] = []
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                names = wheel.namelist()
        elif path.suffix == ".gz":
            with tarfile.open(path) as archive:
                names = archive.getnames()
    except (OSError, tarfile.TarError, zipfile.BadZipFile):
        raise ConfigurationError(f"{path.name} cannot be read as a distribution") from None
    for name in names:
        folder, _, last = name.rpartition("/")
        if last == "__init__.py":
            yield folder.rpartition("/")[2]
