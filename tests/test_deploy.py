"""The unmodified DataflowRunner submits to a local fake of the service: what arrives there."""

from __future__ import annotations

import io
import json
import socket
import sys
import tarfile
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from conftest import Emulator
from deployed import Cloud
from google_emulators import PROJECT
from support import untyped, write_package

from pipelines.cli import _main
from pipelines.deploy.record import recorded

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/envelopes"
IMAGE = f"europe-west1-docker.pkg.dev/{PROJECT}/weighbridge/worker:0.1.0"


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
    setup = "--setup_file", str(ROOT / "setup.py")
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
    here = {str(Path.cwd()), str(ROOT), sys.prefix, socket.gethostname(), str(Path.home() / ".")}
    named = {text for text in here for data in sent if len(text) > 5 and text.encode() in data}
    assert named == set()


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
    status, _, err = cloud.deploy("--setup_file=setup.py", "--dry_run")
    assert status == 2
    assert "workers would not have the package pipelines, with Weighbridge" in err
    (tmp_path / "other.tar.gz").write_bytes(_archive("pipelines/__init__.py"))
    status, _, err = cloud.deploy(
        "--setup_file=setup.py", "--extra_package=other.tar.gz", "--dry_run"
    )
    assert "workers would not have the package mended, with the extractors" in err
    both = _archive("x/pipelines/__init__.py", "x/mended/__init__.py")
    (tmp_path / "other.tar.gz").write_bytes(both)
    arguments = "--setup_file=setup.py", "--extra_package=other.tar.gz"
    status, out, err = cloud.deploy(*arguments, "--dry_run")
    assert status == 0, err
    [pool] = json.loads(out)["environment"]["workerPools"]
    staged = {package["name"] for package in pool["packages"]}
    assert staged == {"workflow.tar.gz", "other.tar.gz", "extra_packages.txt"}
    assert str(tmp_path) not in out
    (tmp_path / "other.tar.gz").write_bytes(b"no archive")
    more = "--extra_package=other.tar.gz", "--dry_run"
    assert "Error: other.tar.gz cannot be read as a distribution" in cloud.deploy(*more)[2]


def test_what_cannot_be_built_is_said_without_a_traceback(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "setup.py").write_text("raise RuntimeError('not today')\n")
    status, out, err = cloud.deploy("--setup_file=own/setup.py")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].endswith(
        "own/setup.py cannot be built; what the build said is above"
    )
    assert "CalledProcessError" not in err
    assert cloud.dataflow.calls == []


def test_a_project_below_the_folder_is_built(cloud: Cloud, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for package in ("pipelines", "mended"):
        write_package(own, package)
    (own / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "own"\nversion = "1"\n'
        '[tool.setuptools]\npackages = ["pipelines", "mended"]\n'
    )
    status, out, err = cloud.deploy("--setup_file=own/pyproject.toml", "--dry_run")
    assert status == 0, err
    [pool] = json.loads(out)["environment"]["workerPools"]
    assert [package["name"] for package in pool["packages"]] == ["workflow.tar.gz"]


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


def test_a_run_that_is_launched_by_hand_is_guarded_too(cloud: Cloud) -> None:
    """Beam would wait without end for the job and the bucket, and end in tracebacks of its own."""
    place = ["--project", PROJECT, "--region=europe-west1", "--job_name=by-hand"]
    folder = ["--staging_location=gs://staged/run", "--temp_location=gs://staged/run"]

    def run(*more: str) -> tuple[int, str]:
        service = ["--dataflow_endpoint", cloud.dataflow.url, "--no_auth"]
        image = f"--sdk_container_image={IMAGE}"
        own = ["run", "--env=prod", "--streaming", "--runner=DataflowRunner", image]
        status = _main([*own, *more, "--no_wait_until_finish", *service])
        return status, " ".join(cloud.capsys.readouterr().err.split())

    assert run(*folder) == (2, "Error: --project is missing: the id of a project of Google Cloud")
    assert "Error: --staging_location is missing" in run(*place)[1]
    status, err = run(*place, "--temp_location=gs://not-there/x")
    assert (status, "there is no bucket gs://not-there; create it" in err) == (2, True)
    assert cloud.dataflow.calls == []
    status, err = run(*place, *folder, "--update")
    assert (status, "--update: no job by-hand runs in test-project" in err) == (2, True)
    assert cloud.dataflow.jobs == {}
    assert list(cloud.google.client.list_tables(cloud.dataset)) == []
    assert run(*place, *folder) == (0, "")
    assert cloud.job["name"] == "by-hand"
    names = {path.name for path in cloud.staged().iterdir()}
    assert names == {"pipeline.pb"}
    status, err = run(*place, *folder)
    assert (status, "Error: a job by-hand runs already" in err) == (2, True)
    assert len(cloud.dataflow.jobs) == 1


def _archive(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return out.getvalue()
