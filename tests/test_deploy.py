"""The unmodified DataflowRunner submits to a local fake of the service: what arrives there."""

from __future__ import annotations

import importlib
import io
import json
import re
import socket
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from conftest import Emulator
from fake_dataflow import FakeDataflow, fake_dataflow
from google_emulators import BUCKET, PROJECT, GoogleEmulators
from support import environment, packed, plain, scored, untyped, write_package

from pipelines.address import folder_of
from pipelines.cli import _main
from pipelines.deploy import submit
from pipelines.deploy.record import recorded
from pipelines.store import Store
from weighbridge.archive import write_archive

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/envelopes"
IMAGE = f"europe-west1-docker.pkg.dev/{PROJECT}/weighbridge/worker:0.1.0"
STEP = "ReadSubscription/ReadFromPubSub/Read"
PAGE = (ROOT / "docs" / "dataflow.md").read_text()


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

    def graph(self) -> beam_runner_api_pb2.Pipeline:
        data = (self.staged() / "pipeline.pb").read_bytes()
        return beam_runner_api_pb2.Pipeline.FromString(data)


@pytest.fixture
def cloud(
    google: GoogleEmulators,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Cloud]:
    dataset = google.dataset()
    (tmp_path / "weighbridge.toml").write_text(settings(dataset))
    monkeypatch.chdir(tmp_path)
    # Nothing listens there: what it was made for is tested with Google's emulator.
    nowhere = {"PUBSUB_EMULATOR_HOST": "127.0.0.1:1"}
    with environment(**google.environment, **nowhere), fake_dataflow() as dataflow:
        yield Cloud(dataflow, google, capsys, dataset)


def test_a_job_is_submitted(cloud: Cloud) -> None:
    status, out, err = cloud.deploy("--labels", "cost=one", "--labels", "team=two")
    assert (status, err) == (0, "")
    job = cloud.job
    assert (job["name"], job["type"]) == ("weighbridge-prod", 2)  # streaming
    assert job["labels"] == {"cost": "one", "team": "two"}
    assert "replaceJobId" not in job
    assert job["environment"]["version"]["job_type"] == "FNAPI_STREAMING"
    assert {"enable_streaming_engine", "use_runner_v2"} <= set(job["environment"]["experiments"])
    assert job["environment"].get("serviceOptions", []) == []
    assert job["environment"]["serviceAccountEmail"] == f"worker@{PROJECT}.iam.gserviceaccount.com"
    [pool] = job["environment"]["workerPools"]
    assert pool["machineType"] == "n2d-standard-2"
    assert pool["numWorkers"] == 1
    assert pool["numThreadsPerWorker"] == 4
    assert pool["autoscalingSettings"] == {"algorithm": 2, "maxNumWorkers": 4}
    assert pool["subnetwork"] == "regions/europe-west1/subnetworks/inner"
    assert pool["ipConfiguration"] == 2  # private
    assert pool["workerHarnessContainerImage"] == IMAGE
    assert pool.get("packages", []) == []
    said = [line.partition(" ")[0] for line in out.splitlines() if line[0] != " "]
    steps = ["weighbridge-prod", "note:", "created", "submitted", job["id"], "nothing"]
    assert list(dict.fromkeys(said)) == steps
    assert f"{job['id']} is RUNNING" in out


def test_the_graph_that_is_staged(cloud: Cloud) -> None:
    assert cloud.deploy()[0] == 0
    assert [path.name for path in cloud.staged().iterdir()] == ["pipeline.pb"]
    steps = {step.unique_name: step for step in cloud.graph().components.transforms.values()}
    read = steps["ReadSubscription/ReadFromPubSub/Read"]
    assert read.spec.urn == "beam:transform:pubsub_read:v1"
    payload = beam_runner_api_pb2.PubSubReadPayload.FromString(read.spec.payload)
    assert payload.subscription == SUBSCRIPTION
    assert (payload.with_attributes, payload.id_attribute) == (True, "")
    assert {"ExtractRows/Extract", "CommitFiles/Commit"} <= {
        name for step in steps for name in (step, step.rpartition("/")[0])
    }
    record = recorded(cloud.graph())
    assert record is not None
    assert set(record.models) == {"scores prediction"}
    assert record.options["commit_interval"] == "300 s"


def test_nothing_of_the_launching_machine_is_sent(cloud: Cloud) -> None:
    setup = "--setup_file", str(ROOT / "setup.py"), "--sdk_container_image="
    status, _, err = cloud.deploy(*setup, "--extractors_package=extractors")
    assert status == 0, err
    sent = [json.dumps(cloud.job).encode()]
    for path in cloud.staged().iterdir():
        if path.name == "workflow.tar.gz":
            with tarfile.open(path) as archive:
                sent += [archive.extractfile(m).read() for m in archive if m.isfile()]  # type: ignore[union-attr]
        else:
            sent.append(path.read_bytes())
    assert {path.name for path in cloud.staged().iterdir()} == {"pipeline.pb", "workflow.tar.gz"}
    here = {str(Path.cwd()), sys.prefix, socket.gethostname(), str(Path.home() / ".")}
    named = {text for text in here for data in sent if len(text) > 5 and text.encode() in data}
    assert named == set()


def test_an_update_shows_what_changes(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    assert cloud.deploy()[0] == 0
    first = cloud.job["id"]
    status, out, err = cloud.deploy()
    assert status == 2
    assert f"update job {first}? Give --yes where nobody can be asked" in err
    assert f"an update of job {first} of 20" in out
    assert "options: as before" in out
    assert "models: as before" in out
    assert "26 as before" in out
    assert len(cloud.dataflow.jobs) == 1
    more = "--commit_interval=2m", "--extractors_package=odd", "--exclude_model=endless"
    status, out, err = cloud.deploy("--yes", "--update", *more)
    assert status == 0, out + err
    assert cloud.job["replaceJobId"] == first
    assert "endless is excluded: its envelopes are parked" in caplog.text
    assert "    ~ commit_interval  300 s -> 120 s\n" in out
    assert "    + exclude_model  endless\n" in out
    assert "    + raises prediction" in out
    assert "    ~ scores prediction" in out
    assert "+ endless" not in out
    assert cloud.dataflow.jobs[first]["currentState"] == "JOB_STATE_UPDATED"
    said = cloud.deploy("--dry_run")[2]
    assert "    - raises prediction" in said
    assert "    - exclude_model  endless" in said


def test_steps_that_are_renamed(cloud: Cloud, tmp_path: Path) -> None:
    assert cloud.deploy()[0] == 0
    mapping = tmp_path / "mapping.json"
    arguments = "--yes", "--transform_name_mapping", str(mapping)
    mapping.write_text('{"ExtractRows/Extracted": "ExtractRows/Extract"}')
    assert "the running job has no step ExtractRows/Extracted" in cloud.deploy(*arguments)[2]
    mapping.write_text(f'{{"{STEP}": "ExtractRows/Extracted"}}')
    assert "the new job has no step ExtractRows/Extracted" in cloud.deploy(*arguments)[2]
    mapping.write_text('["CommitFiles/Commit"]')
    assert "no JSON object of old to new names" in cloud.deploy(*arguments)[2]
    mapping.write_text(f'{{"{STEP}": "{STEP}"}}')
    assert len(cloud.dataflow.jobs) == 1
    status, out, err = cloud.deploy(*arguments)
    assert (status, err) == (0, "")
    assert f"~ {STEP} -> {STEP}" in out
    assert cloud.job["transformNameMapping"] == {STEP: STEP}


def test_steps_that_are_gone_are_named(cloud: Cloud) -> None:
    assert cloud.deploy()[0] == 0
    store = Store(folder_of(cloud.options["pipelineUrl"].rpartition("/")[0]))
    graph = cloud.graph()
    for step in graph.components.transforms.values():
        step.unique_name = step.unique_name.replace("CommitInterval", "CommitEvery")
    store.write("pipeline.pb", graph.SerializeToString())
    out = cloud.deploy("--dry_run")[2]
    assert "    - CommitEvery" in out
    assert "    + CommitInterval" in out
    assert "name their successors with --transform_name_mapping, or --drain this job first" in out
    store.remove("pipeline.pb")
    assert "what it runs is not known" in cloud.deploy("--dry_run")[2]


def test_an_update_of_a_job_that_does_not_run_ends_at_once(cloud: Cloud) -> None:
    status, out, err = cloud.deploy("--update", "--yes")
    assert (status, out) == (2, "")
    assert "--update: no job weighbridge-prod runs in test-project, europe-west1" in err
    assert len(cloud.dataflow.calls) == 1


def test_a_job_that_is_gone_meanwhile_does_not_hold_us_up_for_ever(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beam looks for it in list after list, and is left behind in a thread of its own."""
    assert cloud.deploy()[0] == 0
    found = cloud.dataflow.active
    shown = [found(), *([] for _ in range(10_000))]
    monkeypatch.setattr(cloud.dataflow, "active", lambda: shown.pop(0) if shown else found())
    monkeypatch.setattr(submit, "SUBMIT_SECONDS", 1.0)
    status, _, err = cloud.deploy("--yes")
    assert status == 1
    assert "submission did not end within 1 s; see whether the job is there" in err
    shown.clear()  # lets the thread end


@pytest.mark.parametrize(("flag", "state"), [("--drain", "DRAINED"), ("--cancel", "CANCELLED")])
def test_a_job_is_ended(cloud: Cloud, flag: str, state: str) -> None:
    assert "no job weighbridge-prod runs in test-project" in cloud.deploy(flag, "--yes")[2]
    assert cloud.deploy()[0] == 0
    status, out, err = cloud.deploy(flag)
    assert status == 2
    assert f"{flag[2:]} job {cloud.job['id']}? Give --yes" in err
    assert cloud.job["currentState"] == "JOB_STATE_RUNNING"
    status, out, err = cloud.deploy(flag, "--yes")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == f"{cloud.job['id']} is {state}"
    assert len(cloud.dataflow.jobs) == 1


def test_a_job_that_fails_ends_with_1(cloud: Cloud) -> None:
    cloud.dataflow.states = ["PENDING", "FAILED"]
    status, out, _ = cloud.deploy()
    assert status == 1
    assert "is FAILED\nit should be RUNNING: it has ended; its page says more" in out
    cloud.dataflow.states = ["PENDING"]
    status, out, _ = cloud.deploy("--wait", "20ms")
    assert status == 1
    assert "is PENDING\nit should be RUNNING: not so after 0.02 s of --wait" in out
    assert "nothing is parked" not in out
    assert cloud.deploy("--wait", "0s")[0] == 2  # one is pending


def test_it_need_not_wait(cloud: Cloud) -> None:
    status, out, err = cloud.deploy("--wait", "0s")
    assert (status, err) == (0, "")
    assert "RUNNING" not in out
    assert out.splitlines()[-1] == "nothing is parked of models that are registered"


@pytest.mark.parametrize(
    ("method", "refusal", "status", "said"),
    [
        ("GET", (403, "denied"), 2, "Dataflow refuses this account; enable the API, and grant it"),
        ("POST", (403, "denied"), 2, "Dataflow refuses this account; enable the API, and grant it"),
        ("POST", (400, "no such zone"), 2, "Dataflow refuses: "),
        ("GET", (503, "busy"), 1, "Dataflow does not answer (ServiceUnavailable)"),
    ],
)
def test_what_the_service_refuses_is_said(
    cloud: Cloud,
    caplog: pytest.LogCaptureFixture,
    method: str,
    refusal: tuple[int, str],
    status: int,
    said: str,
) -> None:
    cloud.dataflow.refusals = {method: refusal}
    found, out, err = cloud.deploy()
    assert (found, "submitted" in out) == (status, False)
    assert said in err
    assert len(err.splitlines()) == 1
    assert "no such zone" not in caplog.text
    if method == "POST":
        return
    assert out == ""
    assert [call.partition(" ")[0] for call in cloud.dataflow.calls] == ["GET"]


def test_a_bucket_that_is_missing_is_named_and_none_is_made(cloud: Cloud) -> None:
    before = {path.name for path in cloud.google.root.iterdir()}
    for flag in ("--staging_location", "--temp_location", "--home"):
        status, out, err = cloud.deploy(flag, "gs://not-there/x", "--dry_run")
        assert (status, out) == (2, "")
        assert "there is no bucket gs://not-there; create it: gcloud storage buckets create" in err
    assert {path.name for path in cloud.google.root.iterdir()} == before
    assert cloud.dataflow.calls == []


def test_a_dry_run_prints_the_job_and_sends_nothing(cloud: Cloud) -> None:
    status, out, err = cloud.deploy("--dry_run", "--streaming_mode=at_least_once")
    job = json.loads(out)
    assert (status, job["name"], job["type"]) == (0, "weighbridge-prod", "JOB_TYPE_STREAMING")
    assert job["environment"]["serviceOptions"] == ["streaming_mode_at_least_once"]
    assert job["environment"]["workerPools"][0]["machineType"] == "n2d-standard-2"
    assert "note: at least once: Dataflow may repeat elements" in err
    assert "a new job" in err
    assert cloud.dataflow.jobs == {}
    assert list(cloud.google.client.list_tables(cloud.dataset)) == []


def test_a_package_that_workers_would_not_have(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='own', version='1', packages=['maimed'])\n"
    )
    write_package(tmp_path, "maimed", number=untyped("int"))
    own = "--sdk_container_image=", "--dry_run"
    status, _, err = cloud.deploy("--setup_file=setup.py", *own)
    assert status == 2
    assert "workers would not have the package pipelines, with Weighbridge" in err
    (tmp_path / "other.tar.gz").write_bytes(_archive("pipelines/__init__.py"))
    status, _, err = cloud.deploy("--setup_file=setup.py", "--extra_package=other.tar.gz", *own)
    assert "workers would not have the package mended, with the extractors" in err
    both = _archive("x/pipelines/__init__.py", "x/mended/__init__.py")
    (tmp_path / "other.tar.gz").write_bytes(both)
    arguments = "--setup_file=setup.py", "--extra_package=other.tar.gz"
    status, out, err = cloud.deploy(*arguments, *own)
    assert status == 0, err
    [pool] = json.loads(out)["environment"]["workerPools"]
    staged = {package["name"] for package in pool["packages"]}
    assert staged == {"workflow.tar.gz", "other.tar.gz", "extra_packages.txt"}


def test_a_module_that_is_broken_stops_the_launch(cloud: Cloud, tmp_path: Path) -> None:
    write_package(tmp_path, "broken_models", number=untyped("int"), bad="print(undefined)\n")
    status, out, err = cloud.deploy("--extractors_package=broken_models")
    assert (status, out) == (2, "")
    assert "with --exclude_model bad, which parks its envelopes" in err
    assert cloud.dataflow.calls == []
    more = "--extractors_package=broken_models", "--exclude_model=bad"
    status, out, _ = cloud.deploy(*more)
    assert status == 0
    assert "    + number prediction" in out


def test_what_is_parked_is_named_and_brought_in(cloud: Cloud, tmp_path: Path) -> None:
    message = packed("scores", [scored(0.5), scored(0.25)])
    unknown = plain("unheard-of", {"request": 1, "response": 2}, message_id="p")
    write_archive(tmp_path / "in" / "a.avro", [message, unknown])
    run = ["run", "--env=prod", "--input_files=in", "--extractors_package=extractors"]
    assert _main(run) == 0
    assert "parked, as nobody registered their model: 3" in cloud.capsys.readouterr().out
    status, out, err = cloud.deploy()
    assert (status, err) == (0, "")
    assert _main(["models", "--parked", "--env=prod"]) == 0
    listed = cloud.capsys.readouterr().out
    assert "scores, an example" in listed
    assert "unheard-of" in listed
    assert _main(["failures", "--env=prod"]) == 0
    assert "no dead letters" in cloud.capsys.readouterr().out
    ending = "parked, and registered now: scores, 2\nto bring them in: the same command with"
    assert ending in out
    assert "unheard-of" not in out
    status, out, err = cloud.deploy("--yes", "--replay_parked")
    assert status == 0, err
    assert "parked messages: 1 done" in out
    assert cloud.google.row_ids(f"{cloud.dataset}.scores") == ["pub-0:0", "pub-1:0"]
    assert "nothing is parked of models that are registered" in cloud.deploy("--yes")[1]


def test_the_page_shows_what_is_printed(cloud: Cloud, tmp_path: Path) -> None:
    write_package(tmp_path, "page_models", number=untyped("int"))
    package = "--extractors_package=page_models"
    days = {"request": {"days": 3}, "response": 1}
    write_archive(tmp_path / "in" / "a.avro", [packed("stock-out", [days, days])])
    assert _main(["run", "--env=prod", "--input_files=in", package]) == 0
    assert cloud.deploy(package)[0] == 0
    # In another process the package would be imported anew.
    text = untyped("int", "days").replace('"days"', '"stock-out"')
    (tmp_path / "page_models" / "stock_out.py").write_text(text)
    importlib.invalidate_caches()
    [shown] = re.findall(r"\$ weighbridge (deploy dataflow --env prod .*?)```", PAGE, re.S)
    command, _, output = shown.partition("\n")
    cloud.capsys.readouterr()
    status, out, err = cloud.deploy(*command.split()[4:], package)
    assert (status, err) == (0, "")
    assert _plain(out) == _plain(output)


def _plain(text: str) -> list[str]:
    """Without what differs from run to run, or is of the emulators."""
    text = re.sub(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d| [0-9a-f]{8}$|in \d+\.\d s", "", text, flags=re.M
    )
    lines = [line for line in text.splitlines() if not line.startswith(("note: Pub/Sub", " ──"))]
    return [" ".join(line.split()).replace(PROJECT, "my-project") for line in lines if line.strip()]


def test_a_subscription_that_is_not_there(
    cloud: Cloud, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    status, out, err = cloud.deploy()
    assert (status, out) == (2, "")
    assert f"--input_subscription: there is no {SUBSCRIPTION}" in err
    _, name = emulator.topic()
    status, out, err = cloud.deploy("--dry_run", f"--input_subscription={name}")
    assert status == 0, err
    assert "note" not in err
    topic = f"projects/weighbridge/topics/{name.rpartition('/')[2]}"
    pushing = f"{name}-pushing"
    push = {"push_endpoint": "http://127.0.0.1:1/"}
    emulator.subscriber.create_subscription(
        request={"name": pushing, "topic": topic, "push_config": push}
    )
    status, _, err = cloud.deploy("--dry_run", f"--input_subscription={pushing}")
    assert status == 2
    assert "pushes, or exports; make one to pull from" in err


def _archive(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return out.getvalue()
