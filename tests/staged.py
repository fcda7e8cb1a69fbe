"""A streaming job as the real DataflowRunner stages it, run by Beam's own harness.

The runner writes a classic template instead of calling the service, so that none is needed: files
are staged, and the graph is made, as for any submission.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2 as model
from apache_beam.runners.portability.fn_api_runner.fn_runner import (
    ExtendedProvisionInfo,
    FnApiRunner,
)
from apache_beam.transforms.window import TimestampedValue
from google.cloud.pubsub_v1.types import PubsubMessage

from weighbridge.archive import Message

ROOT = Path(__file__).parents[1]
SUBSCRIPTION = "projects/a-project/subscriptions/envelopes"
_READ = "beam:transform:pubsub_read:v1"
_PARDO = "beam:transform:pardo:v1"


@dataclass(frozen=True)
class Staged:
    """What a submission left.

    Attributes:
        folder: with the staged files.
        out: what the launcher said.
    """

    folder: Path
    out: str

    @property
    def graph(self) -> model.Pipeline:
        """The graph that the service would be given."""
        return model.Pipeline.FromString(self.file("pipeline.pb").read_bytes())

    def file(self, name: str) -> Path:
        """A staged file, by the end of its name."""
        [found] = self.folder.rglob(f"*{name}")
        return found


def beam_arguments(folder: Path) -> list[str]:
    """Options of a submission that sends nothing, into a folder."""
    return [
        "--runner=DataflowRunner",
        "--project=a-project",
        "--region=europe-west1",
        "--job_name=weighbridge",
        f"--staging_location={folder}/staged",
        f"--temp_location={folder}/tmp",
        f"--template_location={folder}/job.json",
        "--dataflow_endpoint=http://localhost:9",
        "--no_auth",
    ]


def stage(folder: Path, *arguments: str, cwd: Path = ROOT, command: Sequence[str] = ()) -> Staged:
    """Submit a streaming run with the DataflowRunner, in a process of its own.

    Args:
        folder: where it stages.
        arguments: of the run, besides those of Beam.
        cwd: where a package of extractors is.
        command: what submits, in the place of `weighbridge run --streaming`.
    """
    for name in ("staged", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    weighbridge = str(Path(sys.executable).parent / "weighbridge")
    words = [*(command or (weighbridge, "run", "--streaming")), *arguments]
    words += [f"--input_subscription={SUBSCRIPTION}", *beam_arguments(folder)]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Staged(folder / "staged", done.stdout + done.stderr)


def run_graph(graph: model.Pipeline, messages: Iterable[Message]) -> str:
    """Run a staged graph on workers that its environments name, until its end; its state."""
    options = PipelineOptions(["--pickle_library=cloudpickle"])
    # By default it names a manifest, which `boot` asks for where nothing is staged beside an image,
    # in an API that this runner does not have.
    runner = FnApiRunner(provision_info=ExtendedProvisionInfo())
    result = runner.run_via_runner_api(_bounded(graph, messages), options)
    result.wait_until_finish()
    return str(result.state)


def in_python(graph: model.Pipeline, python: Path, folder: Path) -> model.Pipeline:
    """The graph, whose workers are Beam's harness in another Python, in an empty folder."""
    folder.mkdir()
    harness = f"cd {folder} && exec {python} -I -m apache_beam.runners.worker.sdk_worker_main"
    for environment in graph.components.environments.values():
        environment.urn, environment.payload = python_urns.SUBPROCESS_SDK, harness.encode()
        del environment.dependencies[:]
    return graph


def in_this_process(graph: model.Pipeline) -> model.Pipeline:
    """The graph, whose workers are threads of this process."""
    for environment in graph.components.environments.values():
        environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
        del environment.dependencies[:]
    return graph


def _bounded(graph: model.Pipeline, messages: Iterable[Message]) -> model.Pipeline:
    """The graph over a subscription that ends, and without triggers by the clock.

    Nothing of ours is changed: the read, which only Dataflow has, gives fixed messages as Pub/Sub
    encodes them; a group that waits for the clock waits for the end, as this runner has no clock.
    """
    parts = graph.components
    [read] = [step for step in parts.transforms.values() if step.spec.urn == _READ]
    [(tag, output)] = read.outputs.items()
    parts.coders["messages"].spec.urn = "beam:coder:bytes:v1"
    parts.pcollections["start"].CopyFrom(parts.pcollections[output])
    parts.pcollections["start"].unique_name = "start"
    parts.pcollections["start"].coder_id = "messages"
    impulse = parts.transforms["start"]
    impulse.unique_name, impulse.spec.urn = "Start", "beam:transform:impulse:v1"
    impulse.outputs["out"] = "start"
    graph.root_transform_ids.insert(0, "start")
    read.spec.CopyFrom(_pardo(_delivering([_delivered(message) for message in messages])))
    read.inputs["in"] = "start"
    read.environment_id = next(iter(parts.environments))
    del read.outputs[tag]
    read.outputs["None"] = output
    for collection in parts.pcollections.values():
        collection.is_bounded = model.IsBounded.BOUNDED
    for strategy in parts.windowing_strategies.values():
        if "processing_time" in str(strategy.trigger):
            strategy.trigger.CopyFrom(model.Trigger(default=model.Trigger.Default()))
    return graph


def _delivered(message: Message) -> tuple[bytes, float]:
    seconds = (message.publish_time or 0) / 1e6
    encoded = PubsubMessage(
        data=message.data,
        attributes=dict(message.attributes),
        message_id=message.message_id,
        ordering_key=message.ordering_key,
    )
    stamp = PubsubMessage.pb(encoded).publish_time
    stamp.FromMicroseconds(message.publish_time or 0)
    return PubsubMessage.serialize(encoded), seconds


def _delivering(messages: list[tuple[bytes, float]]) -> beam.DoFn:
    # Of a class that no worker can import, and which travels with the graph.
    class Deliver(beam.DoFn):
        def process(self, _: Any) -> Any:
            for encoded, seconds in messages:
                yield TimestampedValue(encoded, seconds)

    return Deliver()


def _pardo(function: beam.DoFn) -> model.FunctionSpec:
    windowing = beam.transforms.core.Windowing(beam.window.GlobalWindows())
    pickled = pickler.dumps((function, (), {}, [], windowing))
    payload = model.ParDoPayload(
        do_fn=model.FunctionSpec(urn=python_urns.PICKLED_DOFN_INFO, payload=pickled)
    )
    return model.FunctionSpec(urn=_PARDO, payload=payload.SerializeToString())


def beam_environment() -> Path:
    """A virtual environment with only Beam, and what builds a package; kept for the next time."""
    name = f"beam-{version('apache-beam')}-python-{sys.version_info[0]}.{sys.version_info[1]}"
    kept = Path.home() / ".cache" / "weighbridge-tests" / name
    if not kept.exists():
        made = kept.with_name(f"{name}.{os.getpid()}")
        venv.create(made, with_pip=True)
        beams = f"apache-beam[gcp]=={version('apache-beam')}"
        pip(made / "bin/python", beams, "setuptools", "wheel")
        with suppress(OSError):  # another process of the tests was faster
            made.rename(kept)
    return kept


def fresh_environment(folder: Path, *packages: Path) -> Path:
    """One that adds packages to Beam's, as a worker's own does to its image; its python."""
    venv.create(folder, with_pip=True)
    [site] = folder.glob("lib/python*/site-packages")
    [base] = beam_environment().glob("lib/python*/site-packages")
    (site / "base.pth").write_text(f"{base}\n")
    python = folder / "bin/python"
    for package in packages:
        pip(python, package)
    return python


def pip(python: Path, *packages: object) -> None:
    """Install into another environment, one after the other as a worker does."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-build-isolation"]
    done = subprocess.run([*command, *map(str, packages)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
