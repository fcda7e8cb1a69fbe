"""The flex template: its parameters are the options of a streaming run, and its entry runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.config.options import CONFIG_PARAMETERS
from pipelines.deploy.entry import run_arguments
from pipelines.deploy.template import IMAGE, NOT_STREAMING, metadata, parameters, spec
from pipelines.options import RUN_PARAMETERS, parse_run

METADATA = Path(__file__).parents[1] / "deploy/metadata.json"
PARAMETERS: dict[str, Any] = {one["name"]: one for one in metadata()["parameters"]}
# Of Dataflow's API, those that a template for Pub/Sub can have.
TYPES = {"TEXT", "NUMBER", "BOOLEAN", "ENUM", "PUBSUB_SUBSCRIPTION", "GCS_WRITE_FOLDER"}
GIVEN = [
    "--input_subscription=projects/a-project/subscriptions/s",
    "--home=gs://bucket/home",
    "--catalog_uri=https://catalog.example/",
    f"--{IMAGE}=europe-docker.pkg.dev/p/r/weighbridge:1",
    "--runner=DataflowRunner",
]


def test_the_file_is_what_the_options_say() -> None:
    advice = "`make image-template` writes it anew"
    assert json.loads(METADATA.read_text()) == metadata(), advice


def test_parameters_are_the_options_of_a_streaming_run_and_the_image() -> None:
    options = {str(option.name) for option in [*RUN_PARAMETERS, *CONFIG_PARAMETERS]}
    assert set(PARAMETERS) == (options - NOT_STREAMING) | {IMAGE}
    assert options >= NOT_STREAMING
    assert len(PARAMETERS) == len(metadata()["parameters"])


def test_each_parameter_is_as_dataflow_asks() -> None:
    for one in PARAMETERS.values():
        assert re.fullmatch(r"[a-z_]+", one["name"])
        assert one["label"]
        assert one["helpText"]
        assert one["paramType"] in TYPES
        assert isinstance(one["isOptional"], bool)
        for regex in one.get("regexes", []):
            assert re.compile(regex).pattern.startswith("^")
            assert regex.endswith("$")
        assert (one["paramType"] == "ENUM") == ("enumOptions" in one)


@given(st.data())
def test_what_a_regex_lets_through_the_option_takes(data: st.DataObject) -> None:
    named = [option for option in parameters() if option.name not in ("home", "input_subscription")]
    valued = [one for one in named if not one.is_flag and "regexes" in PARAMETERS[str(one.name)]]
    option = data.draw(st.sampled_from(valued))
    [regex] = PARAMETERS[str(option.name)]["regexes"]
    text = data.draw(st.from_regex(re.compile(regex.replace("$", r"\Z"), re.ASCII)), "text")
    assume(len(text) < 12)
    context = click.Context(click.Command("run"))
    assert option.type_cast_value(context, text) is not None


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("commit_interval", "5 minutes"),
        ("max_envelope_bytes", "0"),
        ("no_arize", "yes"),
        ("input_subscription", "envelopes"),
        ("home", "/var/weighbridge"),
        (IMAGE, "weighbridge"),
    ],
)
def test_a_regex_refuses(name: str, refused: str) -> None:
    [regex] = PARAMETERS[name]["regexes"]
    assert not re.match(regex, refused)


def test_arguments_of_the_launcher_become_those_of_the_run() -> None:
    arguments = run_arguments(
        [
            *GIVEN,
            "--no-arize=true",
            "--commit_interval=2m",
            "--catalog_property=a=1; b=2",
            "--staging_location=gs://bucket/staging",
        ]
    )
    assert arguments[0] == "run"
    options = parse_run(arguments[1:])
    assert options.streaming
    assert options.no_arize
    assert options.commit_interval == 120.0
    assert options.catalog_property == ("a=1", "b=2")
    assert str(options.home) == "gs://bucket/home"
    assert "--no_wait_until_finish" in options.beam_args
    assert "--staging_location=gs://bucket/staging" in options.beam_args
    assert not parse_run(run_arguments([*GIVEN, "--no_arize=false"])[1:]).no_arize


def test_what_only_the_launcher_knows_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    arguments = run_arguments([*GIVEN, "--launcher_secret=sesame"])
    assert parse_run(arguments[1:]).streaming
    [record] = caplog.records
    assert record.getMessage() == "the launcher's --launcher_secret is left out"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--workers=2"], "--workers is not for a streaming job"),
        (["--no_arize=maybe"], "--no_arize takes true or false"),
        (["--home"], "--home lacks its value"),
        (["--num_workers=many"], "num_workers"),
    ],
)
def test_what_a_launch_refuses(given: list[str], said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        run_arguments([*GIVEN, *given])


def test_a_launch_without_the_image_is_refused() -> None:
    with pytest.raises(click.UsageError, match=f"{IMAGE} is missing"):
        run_arguments([one for one in GIVEN if IMAGE not in one])


def test_gcloud_takes_the_metadata_and_drops_what_the_spec_says(tmp_path: Path) -> None:
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed")
    image = "europe-docker.pkg.dev/p/r/weighbridge:1"
    build = ["gcloud", "dataflow", "flex-template", "build", "gs://bucket/template.json"]
    build += [f"--image={image}", "--sdk-language=PYTHON", f"--metadata-file={METADATA}"]
    # It needs no account for that, nor the network.
    settings = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path)}
    command = [*build, "--print-only", "--project=a-project"]
    done = subprocess.run(command, capture_output=True, text=True, env=settings)
    assert done.returncode == 0, done.stderr
    printed = json.loads(yaml.safe_load(done.stdout))
    ours = spec(image)
    assert (printed["image"], printed["sdkInfo"]) == (image, ours["sdkInfo"])
    assert by_name(printed["metadata"]["parameters"]) == by_name(ours["metadata"]["parameters"])
    dropped = ours["metadata"].keys() - printed["metadata"]
    assert dropped <= {"streaming", "supportsExactlyOnce", "supportsAtLeastOnce"} | {
        "defaultStreamingMode"
    }


def by_name(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Parameters, without what says nothing: gcloud leaves out a false."""
    return {one["name"]: {k: v for k, v in one.items() if v is not False} for one in found}
