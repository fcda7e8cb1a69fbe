"""What is refused before anybody is asked, and that Beam takes what is left: with its own endpoint.

The host name of the fake service switches Beam's validation off, so that this is tested apart.
"""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
import click
import grpc
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.options.pipeline_options import GoogleCloudOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from secret_manager import secret_manager
from support import environment

from pipelines.cli import _main
from pipelines.config.options import CONFIG_PARAMETERS
from pipelines.deploy.build import beam_options, build
from pipelines.deploy.checks import arize_secrets, check
from pipelines.deploy.fingerprint import Step
from pipelines.deploy.plan import plan_of, print_plan
from pipelines.deploy.reach import check_secrets
from pipelines.deploy.record import KEY, Record, read_staged, record_of, recorded
from pipelines.deploy.service import Job
from pipelines.deploy.settings import PARAMETERS, Settings
from pipelines.deploy.talk import Talk
from pipelines.options import RUN_SETTINGS, run_defaults, run_options
from schemas import ConfigurationError

WORKING = {
    "project": "my-project",
    "region": "europe-west1",
    "input_subscription": "projects/my-project/subscriptions/envelopes",
    "staging_location": "gs://my-bucket/dataflow",
    "home": "gs://my-bucket/home",
    "tables": "bigquery",
    "dataset": "my-project.models",
    "staging": "gs://my-bucket/loads",
    "sdk_container_image": "eu.example/weighbridge/worker:0.1.0",
    "extractors_package": "odd",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*more: str, **changed: str) -> list[str]:
    given = {**WORKING, **changed}
    own = [f"--{name}={value}" for name, value in given.items() if value]
    return ["deploy", "dataflow", *own, "--no_arize", *more]


JOB = Job("id-1", "weighbridge-prod", "RUNNING", datetime(2026, 1, 2, tzinfo=UTC))


def steps(*names: str, **more: Any) -> dict[str, Step]:
    """Steps of these names, each as `fingerprint` tells it."""
    window = {"fn": "global", "trigger": {}, "allowed_lateness_ms": 0}
    step = {"urn": "pardo", "inputs": [], "outputs": {"out": "bytes"}, "windows": [window]}
    return {name: {**step, **more} for name in names}


BEFORE = Record({"a": "1", "b": "2"}, {"m prediction": "x"}, steps("Read", "Old/Do"))
AFTER = Record({"b": "3", "c": "4"}, {"m prediction": "x"}, steps("Read", "New/Do"))
JSON = st.none() | st.booleans() | st.integers() | st.text()


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["Read", "Old/Do"]), inner)


def _settings() -> Settings:
    parsed = click.Command("dataflow", params=PARAMETERS, context_settings=RUN_SETTINGS)
    return Settings.of(parsed.make_context("deploy dataflow", command()[2:]).params, (), "prod")


SETTINGS = _settings()


@pytest.mark.parametrize(
    ("changed", "more", "said"),
    [
        ({"project": ""}, [], "--project is missing: the id of a project of Google Cloud"),
        ({"project": "123456"}, [], "123456 is a number; name the id of the project"),
        ({"project": "My Project"}, [], "My Project is no id of a project, which has 6 to 30"),
        ({"region": ""}, [], "--region is missing: such as europe-west1"),
        ({"region": "europe-west1-b"}, [], "europe-west1-b is a zone; name its region, europe-w"),
        ({"region": "Europe"}, [], "Europe is no region as europe-west1 is"),
        ({"job_name": "Acme_Stream"}, [], "--job_name: Acme_Stream has not 1 to 63 of a-z, 0-9"),
        ({"job_name": "a" * 64}, [], "has not 1 to 63 of a-z, 0-9"),
        ({"input_subscription": ""}, [], "--input_subscription is missing: projects/P/subs"),
        ({"input_subscription": "my-sub"}, [], "my-sub is not of the form projects/P/subscript"),
        ({"input_subscription": "projects/p/subscriptions/s"}, [], "Invalid PubSub project name"),
        ({"staging_location": ""}, [], "--staging_location is missing: a folder as gs://my-"),
        ({"staging_location": "/tmp/x"}, [], "/tmp/x is not of the form gs://BUCKET/PREFIX"),
        ({"temp_location": "s3://b/x"}, [], "--temp_location: s3://b/x is not of the form gs://"),
        ({"sdk_container_image": ""}, [], "workers would have neither Weighbridge nor extractors"),
        ({"sdk_container_image": "worker"}, [], "worker is not of the form HOST/PATH:TAG, as"),
        ({"sdk_container_image": "https://eu.example/a/b:1"}, [], "b:1 is not of the form HOST/PA"),
        ({"sdk_container_image": "eu.example/Worker:1"}, [], "Worker:1 is not of the form HOST/PA"),
        ({"setup_file": "./setup.py"}, [], "--sdk_container_image and --setup_file: name one"),
        ({"sdk_container_image": "", "setup_file": "nope/setup.py"}, [], "nope/setup.py"),
        ({"sdk_container_image": "", "setup_file": "a.py"}, [], "is no setup.py and no pyproject"),
        ({"extra_package": "own.tar.gz"}, [], "--extra_package: there is no file own.tar.gz"),
        ({"extra_package": "."}, [], "--extra_package: there is no file ."),
        ({"num_workers": "5", "max_num_workers": "2"}, [], "--num_workers 5 is more than --max_nu"),
        ({"num_workers": "0"}, [], "0 is not in the range 1<=x<=2147483647"),
        ({"max_num_workers": "9999999999"}, [], "9999999999 is not in the range 1<=x<=2147483647"),
        ({"worker_machine_type": "N2D 2"}, [], "--worker_machine_type: N2D 2 is no type of machi"),
        ({"service_account_email": "me"}, [], "--service_account_email: me is no address"),
        ({"subnetwork": "inner"}, [], "inner is not of the form regions/REGION/subnetworks/NAME"),
        ({"subnetwork": "regions/x1/subnetworks/a"}, [], "--subnetwork is in x1, and --region is"),
        ({"labels": "Team=x"}, [], "--labels: Team=x is not of the form KEY=VALUE, of up to 63"),
        ({"streaming_mode": "twice"}, [], "'twice' is not one of 'exactly_once', 'at_least_once'"),
        ({"home": "here"}, [], "workers of the DataflowRunner do not reach --home here"),
        ({"home": "gs://my-bucket/home", "tables": "", "dataset": "", "staging": ""}, [],
         "--home gs://my-bucket/home needs a --catalog_uri"),
        ({"tables": "", "dataset": "", "staging": "", "catalog_uri": "sqlite:////x"}, [],
         "do not reach --catalog_uri sqlite:////x"),
        ({"tables": "", "dataset": "", "staging": "", "catalog_property": "type=sql"},
         ["--catalog_property=uri=sqlite:////x"], "--catalog_property uri=sqlite:////x"),
        ({}, ["--max_workers=4"], "no such option: --max_workers; did you mean --max_num_workers?"),
        ({}, ["--setup_fil=./setup.py"], "did you mean --setup_file?"),
        ({}, ["stray"], "no such option: stray"),
        ({}, ["--runner=DirectRunner"], "--runner: this command is for Dataflow; other runners"),
        ({}, ["--machine_type=n1"], "--machine_type: write --worker_machine_type"),
        ({}, ["--template_location=gs://b/t"], "a flex template is made of the image"),
        ({}, ["--s3_secret_access_key=sesame"], "--s3_secret_access_key: options of a job"),
        ({}, ["--disk_size_gb=many"], "argument --disk_size_gb: invalid int value"),
        ({}, ["--experiments=disable_runner_v2"], "Disabling Dataflow Portable Runner no longer"),
        ({}, ["--worker_region=a", "--worker_zone=b"], "worker_zone are mutually exclusive"),
        ({}, ["--update", "--drain"], "--update, --drain and --cancel: give one of them"),
        ({}, ["--cancel", "--dry_run"], "--dry_run and --replay_parked are for a launch; drop"),
        ({}, ["--replay_parked", "--wait=0s"], "--replay_parked waits until the job runs; drop"),
        ({"extractors_package": "nowhere"}, [], "there is no package nowhere"),
        ({}, ["--exclude_model=nobody"], "--exclude_model nobody: neither a model nor a module"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_work_is_said_in_one_message(
    changed: dict[str, str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = _main(command("--dry_run", *more, **changed))
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    assert "sesame" not in err


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("", "workers of Dataflow do not have the variable ARIZE_API_KEY, which api_key of the"),
        ('[arize.spaces.default]\napi_key = {secret = "projects/p/secrets/s/versions/1"}\n',
         "the variable ARIZE_SPACE_ID, which space_id of the space default names: write in"),
    ],
    ids=["key", "space"],
)  # fmt: skip
def test_keys_of_arize_that_workers_would_not_have(
    toml: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("weighbridge.toml").write_text(toml)
    with environment(ARIZE_API_KEY="sesame", ARIZE_SPACE_ID="s"):
        status = _main([word for word in command("--dry_run") if word != "--no_arize"])
    err = capsys.readouterr().err
    assert status == 2
    assert said in err
    assert "sesame" not in err


SPACE = """
[arize.spaces.default]
space_id = { secret = "projects/p/secrets/space/versions/1" }
api_key = { secret = "projects/p/secrets/key/versions/1" }
"""


def test_secrets_that_are_not_there_stop_it_and_others_are_noted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("weighbridge.toml").write_text(SPACE)
    given = [word for word in command("--dry_run") if word != "--no_arize"]
    key, space = (f"projects/p/secrets/{name}/versions/1" for name in ("key", "space"))
    with secret_manager() as (manager, variables), environment(**variables):
        manager.secrets[key] = b"sesame"
        assert _main([*given, "--no_auth"]) == 2
        assert f"Error: secret {space} is not there; create this version" in capsys.readouterr().err
        manager.secrets[space] = grpc.StatusCode.PERMISSION_DENIED
        [note] = check_secrets(arize_secrets(*_arize()))
    assert note.startswith(f"not read from here: secret {space} may not be read by this account")


def _arize() -> tuple[Any, Any]:
    given = [word for word in command("--config=weighbridge.toml")[2:] if word != "--no_arize"]
    parsed = click.Command("dataflow", params=[*PARAMETERS, *CONFIG_PARAMETERS])
    with parsed.make_context("deploy dataflow", given) as context:
        own = {name: value for name, value in context.params.items() if name in run_defaults()}
        options = run_options({**run_defaults(), **own, "streaming": True}, [])
    return options.load(), options


def built(*more: str) -> dict[str, Any]:
    """The job of a dry run, by Beam's own endpoint and validation."""
    parsed = click.Command("dataflow", params=PARAMETERS, context_settings=RUN_SETTINGS)
    context = parsed.make_context("deploy dataflow", command(*more)[2:])
    settings = Settings.of(context.params, context.args, "prod")
    check(settings)
    own = {name: value for name, value in context.params.items() if name in run_defaults()}
    options = run_options({**run_defaults(), **own, "streaming": True}, settings.arguments())
    extractors = options.load()
    record = record_of(settings, options, extractors)
    found: dict[str, Any] = json.loads(build(settings, options, extractors, record).json())
    return found


def test_beam_takes_what_is_left_with_its_own_endpoint() -> None:
    job = built("--streaming_mode=at_least_once", "--worker_threads=2", "--disk_size_gb=50")
    options = job["environment"]["sdkPipelineOptions"]["options"]
    assert (job["name"], job["type"]) == ("weighbridge-prod", "JOB_TYPE_STREAMING")
    assert options["dataflow_endpoint"] == "https://dataflow.googleapis.com"
    # Beam would send the main session, and a list of what is installed here.
    assert options["save_main_session"] is False
    assert "disable_logging_submission_environment" in options["experiments"]
    [pool] = job["environment"]["workerPools"]
    assert (pool["kind"], pool["diskSizeGb"], pool["numThreadsPerWorker"]) == ("harness", 50, 2)
    assert pool.get("packages", []) == []
    assert "ipConfiguration" not in pool
    assert job["environment"]["serviceOptions"] == ["streaming_mode_at_least_once"]
    assert "update" not in job


def test_nobody_is_logged_in(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("_credentials_init", "_credentials"):  # asked for once in a process
        monkeypatch.setattr(auth._Credentials, name, None)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(folder))
    for flag in ("--dry_run", "--drain"):
        assert _main(command(flag)) == 2
        out, err = capsys.readouterr()
        assert "no Google Cloud credentials: log in with `gcloud auth application-def" in out + err


def test_that_google_cannot_be_reached_is_not_called_a_wrong_login(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    for name in ("_credentials_init", "_credentials"):
        monkeypatch.setattr(auth._Credentials, name, None)
    private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = rsa.generate_private_key(65537, 2048)
    account = {
        "type": "service_account",
        "client_email": "someone@my-project.iam.gserviceaccount.com",
        "private_key": key.private_bytes(*private, serialization.NoEncryption()).decode(),
        "token_uri": "http://127.0.0.1:1/token",
    }
    (folder / "key.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(folder / "key.json"))
    assert _main(command("--dry_run")) == 1
    assert "Google, which checks who we are, cannot be reached" in capsys.readouterr().err


PLACES = st.from_regex(r"gs://[a-z0-9._-]{1,6}(/.{0,6})?", fullmatch=True)
NAMES = st.from_regex(r"[a-zA-Z0-9:.-]{1,9}", fullmatch=True)


@settings(max_examples=300)
@given(
    st.tuples(st.sampled_from(["staging_location", "temp_location"]), PLACES | st.text())
    | st.tuples(st.sampled_from(["job_name", "project"]), NAMES | st.text())
)
def test_beam_takes_all_names_and_places_that_we_take(given: tuple[str, str]) -> None:
    """Where it likes neither place, it would make a bucket of its own."""
    settings = replace(SETTINGS, **{given[0]: given[1]})
    try:
        check(settings)
    except ConfigurationError:
        return
    options = beam_options(settings)
    validator = PipelineOptionsValidator(options, DataflowRunner())
    cloud = options.view_as(GoogleCloudOptions)
    assert validator.validate_cloud_options(cloud) == []
    for field in ("staging_location", "temp_location"):
        assert validator.validate_gcs_path(cloud, field) == []


@given(st.binary() | st.recursive(JSON, nested).map(json.dumps).map(str.encode))
def test_a_mapping_of_anything_is_a_mapping_or_refused(data: bytes) -> None:
    Path("mapping.json").write_bytes(data)
    settings = replace(SETTINGS, transform_name_mapping="mapping.json")
    try:
        plan = plan_of(settings, AFTER, JOB, None)
    except ConfigurationError as error:
        assert "transform_name_mapping" in str(error)
    else:
        assert all(new in AFTER.steps or not new for new in plan.mapping.values())


@given(st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(), st.text()))
def test_a_graph_tells_what_was_noted_in_it(
    options: dict[str, str], models: dict[str, str]
) -> None:
    pipeline = beam.Pipeline(display_data={KEY: Record(options, models).to_json()})
    found = recorded(pipeline.to_runner_api())
    assert found is not None
    assert (found.options, found.models) == (options, models)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"options": 1, "models": {}}'])
def test_a_graph_of_another_version_says_nothing(text: str, tmp_path: Path) -> None:
    graph = beam.Pipeline(display_data={KEY: text}).to_runner_api()
    assert recorded(graph) is None
    path = tmp_path / "pipeline.pb"
    for data in (graph.SerializeToString(), b"no graph"):
        path.write_bytes(data)
        assert read_staged(str(path)) is None
    assert read_staged(str(tmp_path / "gone.pb")) is None


@pytest.mark.parametrize(
    ("mapping", "steps"),
    [
        (None, ["    - Old/Do", "    + New/Do", "  steps that are gone take what they hold"]),
        ({"Old/Do": "New/Do"}, ["    ~ Old/Do -> New/Do"]),
        ({"Old/Do": ""}, ["    + New/Do", "    ~ Old/Do -> (none)"]),
    ],
)
def test_a_plan_shows_what_differs(
    mapping: dict[str, str] | None, steps: list[str], folder: Path
) -> None:
    path = ""
    if mapping is not None:
        path = str(folder / "mapping.json")
        Path(path).write_text(json.dumps(mapping))
    settings = replace(SETTINGS, transform_name_mapping=path)
    out = io.StringIO()
    print_plan(Console(file=out, width=80), plan_of(settings, AFTER, JOB, BEFORE))
    lines = out.getvalue().splitlines()
    assert lines[0] == (
        "weighbridge-prod in my-project, europe-west1: an update of job id-1 of 2026-01-02 "
        "00:00:00, which is RUNNING"
    )
    assert lines[1:6] == ["  options:", "    - a  1", "    ~ b  2 -> 3", "    + c  4",
                          "  models: as before"]  # fmt: skip
    assert lines[6] == "  steps: 2"
    assert [line[: len(step)] for line, step in zip(lines[7:], steps, strict=True)] == steps


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"outputs": {"out": "text"}}, ["    ! Read  outputs", "  a step marked with !"]),
        ({"state": {"bag": "bag"}}, ["    ! Read  state", "  a step marked with !"]),
        (
            {"windows": [{"fn": "fixed", "allowed_lateness_ms": 0}], "timers": ["t"]},
            ["    ! Read  timers, windows", "  a step marked with !"],
        ),
        ({"inputs": ["Other"]}, []),
        ({"windows": [{"fn": "global", "trigger": {"x": 1}, "allowed_lateness_ms": 0}]}, []),
    ],
)
def test_a_plan_marks_steps_that_read_otherwise(more: dict[str, Any], said: list[str]) -> None:
    out = io.StringIO()
    before, after = (Record({}, {}, steps("Read", **fields)) for fields in ({}, more))
    print_plan(Console(file=out, width=80), plan_of(SETTINGS, after, JOB, before))
    lines = out.getvalue().splitlines()
    shown = lines[lines.index("  steps: 1" if said else "  steps: 1 as before") + 1 :]
    assert [line[: len(start)] for line, start in zip(shown, said, strict=True)] == said


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("n\n", False)])
def test_it_asks_before_a_running_job_is_touched(
    answer: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as terminal, os.fdopen(ours, "w") as keyboard:
        monkeypatch.setattr(sys, "stdin", terminal)
        keyboard.write(answer)
        keyboard.flush()
        talk = Talk(Console(), SETTINGS)
        if goes_on:
            talk.confirm("drain job id-1?")
        else:
            with pytest.raises(click.Abort):
                talk.confirm("drain job id-1?")
    assert "drain job id-1? [y/N]" in capsys.readouterr().out


def test_a_mapping_is_for_updates(folder: Path) -> None:
    (folder / "mapping.json").write_text("{}")
    settings = replace(SETTINGS, transform_name_mapping="mapping.json")
    with pytest.raises(ConfigurationError, match="is for updates, and no job weighbridge-prod run"):
        plan_of(settings, AFTER, None, None)
