"""The options of `weighbridge deploy dataflow`, and the arguments of Beam that follow from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click

from pipelines.options import NOTHING_OF_HERE, RUN_PARAMETERS
from pipelines.units import Duration

WORKER_THREADS = 4
_COUNT = click.IntRange(1, 2**31 - 1)  # as the service's own fields are
_OF_RUN = (
    *("home", "tables", "catalog_uri", "warehouse"),
    *("catalog_property", "dataset", "staging", "extractors_package", "exclude_model"),
    *("arize_url", "no_arize", "max_future", "max_envelope_bytes"),
)
_OWN: list[click.Parameter] = [
    click.Option(["--project"], default="", metavar="ID", help="Project that the job runs in."),
    click.Option(["--region"], default="", metavar="NAME", help="Its region, as europe-west1."),
    click.Option(
        ["--job_name"],
        default="",
        metavar="NAME",
        show_default="weighbridge-ENV",
        help="Name of the job; one of a name runs at a time.",
    ),
    click.Option(
        ["--staging_location"],
        default="",
        metavar="gs://BUCKET/PREFIX",
        help="Where the graph and packages are put for the workers.",
    ),
    click.Option(
        ["--temp_location"],
        default="",
        metavar="gs://BUCKET/PREFIX",
        show_default="that of --staging_location",
        help="Where Dataflow puts temporary files.",
    ),
    click.Option(
        ["--sdk_container_image"],
        default="",
        metavar="IMAGE",
        help="Image of the workers, with this version and the extractors in it.",
    ),
    click.Option(
        ["--setup_file"],
        default="",
        metavar="FILE",
        help="setup.py of this project, built and installed by each worker: for trying out.",
    ),
    click.Option(
        ["--extra_package"],
        multiple=True,
        metavar="FILE",
        help="Distribution (.tar.gz or .whl) that each worker installs, too, such as your "
        "extractors. More than once for several.",
    ),
    click.Option(
        ["--worker_machine_type"],
        default="",
        metavar="TYPE",
        show_default="that of Dataflow",
        help="Machines of the workers, e.g. n2d-standard-2.",
    ),
    click.Option(
        ["--num_workers"],
        type=_COUNT,
        default=1,
        show_default=True,
        help="Workers at the start, and at least.",
    ),
    click.Option(
        ["--max_num_workers"],
        type=_COUNT,
        default=10,
        show_default=True,
        help="Workers at most: a bound on what it costs.",
    ),
    click.Option(
        ["--worker_threads"],
        type=_COUNT,
        default=WORKER_THREADS,
        show_default=True,
        help="Threads of each worker process, of which there is one for each CPU.",
    ),
    click.Option(
        ["--service_account_email"],
        default="",
        metavar="EMAIL",
        show_default="Compute Engine's",
        help="Account that the workers run as.",
    ),
    click.Option(
        ["--subnetwork"],
        default="",
        metavar="PATH",
        help="Their network: regions/REGION/subnetworks/NAME.",
    ),
    click.Option(
        ["--no_use_public_ips"], is_flag=True, help="Give the workers private addresses only."
    ),
    click.Option(
        ["--labels"],
        multiple=True,
        metavar="KEY=VALUE",
        help="Label of the job, for the bill. More than once for several.",
    ),
    click.Option(
        ["--streaming_mode"],
        type=click.Choice(["exactly_once", "at_least_once"]),
        default="exactly_once",
        show_default=True,
        help="How often Dataflow may deliver an element between two steps. With either, each row "
        "is in its Iceberg table once.",
    ),
    click.Option(
        ["--transform_name_mapping"],
        default="",
        metavar="FILE",
        help="JSON object of old to new names of steps, for an update that renames some.",
    ),
]
_INPUT: list[click.Parameter] = [
    click.Option(
        ["--input_subscription"],
        default="",
        metavar="NAME",
        help="Pub/Sub subscription that it reads, projects/P/subscriptions/S.",
    ),
    click.Option(
        ["--commit_interval"],
        type=Duration(),
        show_default="5m",
        help="Time from commit to commit.",
    ),
]
_DOING: list[click.Parameter] = [
    click.Option(
        ["--update"], is_flag=True, help="Fail if no job of that name runs, instead of a new one."
    ),
    click.Option(
        ["--drain"],
        is_flag=True,
        help="End the running job once what it has read is committed.",
    ),
    click.Option(
        ["--cancel"],
        is_flag=True,
        help="End the running job now: what it has read and not committed is lost to it.",
    ),
    click.Option(["--dry_run"], is_flag=True, help="Print the job as JSON, and send nothing."),
    click.Option(["--yes"], is_flag=True, help="Do not ask before a running job is touched."),
    click.Option(
        ["--replay_parked"],
        is_flag=True,
        help="Once it runs, replay what is parked of models that are registered now.",
    ),
    click.Option(
        ["--wait"],
        type=Duration(),
        default="10m",
        show_default=True,
        help="How long to wait until the job runs, or is drained or cancelled; 0s for not at all.",
    ),
]
PARAMETERS: list[click.Parameter] = [
    *_OWN[:3],
    *_INPUT,
    *(item for item in RUN_PARAMETERS if item.name in _OF_RUN),
    *_OWN[3:],
    *_DOING,
]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where a job runs, on what, and in which way. The fields are the options of that name.

    Args:
        beam_args: options of Apache Beam that were given beside ours.
    """

    project: str
    region: str
    job_name: str
    staging_location: str
    temp_location: str
    sdk_container_image: str
    setup_file: str
    extra_package: tuple[str, ...]
    worker_machine_type: str
    num_workers: int
    max_num_workers: int
    worker_threads: int
    service_account_email: str
    subnetwork: str
    no_use_public_ips: bool
    labels: tuple[str, ...]
    streaming_mode: str
    transform_name_mapping: str
    beam_args: tuple[str, ...] = field(default=())

    @classmethod
    def of(
        cls, parameters: Mapping[str, Any], beam_args: Sequence[str], environment: str
    ) -> Settings:
        """Those of a command line, with defaults that depend on others.

        Args:
            parameters: what was parsed by `PARAMETERS`.
            beam_args: the words that none of them took.
            environment: name of the chosen environment, "" for none.
        """
        own = {item.name: parameters[item.name] for item in fields(cls) if item.name in parameters}
        own["job_name"] = own["job_name"] or "-".join(filter(None, ("weighbridge", environment)))
        if own["setup_file"]:  # Beam goes into its folder, and names it from there once more
            own["setup_file"] = str(Path(own["setup_file"]).absolute())
        own["temp_location"] = own["temp_location"] or own["staging_location"]
        return cls(**own, beam_args=tuple(beam_args))

    def arguments(self, mapping: Mapping[str, str] | None = None) -> list[str]:
        """The job as Beam's arguments, which the DataflowRunner takes.

        Args:
            mapping: old to new names of steps, if this is an update of a running job.
        """
        words = ["--runner=DataflowRunner", "--autoscaling_algorithm=THROUGHPUT_BASED"]
        words += NOTHING_OF_HERE
        for name, given in _NAMES.items():
            value = getattr(self, name)
            if value:
                words.append(f"--{given}={value}")
        words += [f"--extra_package={path}" for path in self.extra_package]
        words += [f"--labels={label}" for label in self.labels]
        if self.no_use_public_ips:
            words.append("--no_use_public_ips")
        if self.streaming_mode == "at_least_once":
            words.append("--dataflow_service_options=streaming_mode_at_least_once")
        if mapping is not None:
            words.append("--update")
            if mapping:
                words.append(f"--transform_name_mapping={json.dumps(dict(mapping))}")
        return [*words, *self.beam_args]

    @property
    def packages(self) -> list[Path]:
        """The distributions that are staged beside the one of `setup_file`."""
        return [Path(path) for path in self.extra_package]


_SAME = (
    *("project", "region", "job_name", "staging_location", "temp_location", "sdk_container_image"),
    *("setup_file", "worker_machine_type", "num_workers", "max_num_workers"),
    *("service_account_email", "subnetwork"),
)
_NAMES = {**{name: name for name in _SAME}, "worker_threads": "number_of_worker_harness_threads"}
"""By field, Beam's name of an option that takes its value as it is."""
