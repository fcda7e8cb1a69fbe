"""A fake Dataflow, emulators of the services around it, and the command that deploys there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_dataflow import FakeDataflow, fake_dataflow
from google_emulators import BUCKET, PROJECT, GoogleEmulators
from support import environment

from pipelines.cli import _main

PAGE = (Path(__file__).parent.parent / "docs" / "dataflow.md").read_text()


def settings(dataset: str) -> str:
    """The `weighbridge.toml` of the page, for the emulators."""
    [text] = re.findall(r'```toml title="weighbridge.toml"\n(.*?)```', PAGE, re.S)
    text = text.partition("[env.prod.arize")[0].replace("my-project.weighbridge", dataset)
    text = text.replace("my-project", PROJECT).replace("my-bucket", BUCKET)
    return "no_arize = true\n" + text.replace("shop_models", "mended")


@dataclass
class Cloud:
    """A service, buckets, a dataset and a subscription, and how the command is called there."""

    dataflow: FakeDataflow
    google: GoogleEmulators
    capsys: pytest.CaptureFixture[str]
    dataset: str

    def deploy(self, *arguments: str) -> tuple[int, str, str]:
        service = ["--dataflow_endpoint", self.dataflow.url, "--no_auth"]
        own = ["deploy", "dataflow", "--env", "prod", "--wait", "10s"]
        status = _main([*own, *arguments, *service])
        out, err = self.capsys.readouterr()
        return status, out, err

    @property
    def job(self) -> dict[str, Any]:
        return list(self.dataflow.jobs.values())[-1]

    @property
    def options(self) -> dict[str, Any]:
        found: dict[str, Any] = self.job["environment"]["sdkPipelineOptions"]["options"]
        return found

    def staged(self, url: str = "") -> Path:
        """The folder that a job was staged in."""
        folder = (url or self.options["pipelineUrl"]).rpartition("/")[0]
        return self.google.root / folder.removeprefix("gs://")

    def graph(self) -> Any:
        """The graph that a job was staged with."""
        from apache_beam.portability.api import beam_runner_api_pb2

        data = (self.staged() / "pipeline.pb").read_bytes()
        return beam_runner_api_pb2.Pipeline.FromString(data)


@contextmanager
def cloud_of(google: GoogleEmulators, capsys: pytest.CaptureFixture[str]) -> Iterator[Cloud]:
    """All of it, with the settings of the page in this folder."""
    dataset = google.dataset()
    Path("weighbridge.toml").write_text(settings(dataset))
    # Nothing listens there: what it was made for is tested with Google's emulator.
    nowhere = {"PUBSUB_EMULATOR_HOST": "127.0.0.1:1"}
    with environment(**google.environment, **nowhere), fake_dataflow() as dataflow:
        yield Cloud(dataflow, google, capsys, dataset)
