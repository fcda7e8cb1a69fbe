"""The example of a company's own extractors: its tests, its package, and the pipeline with it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import click
import pytest
import yaml
from packaging.requirements import Requirement
from support import Home, environment, plain
from test_image import PINS

from pipelines.config.options import CONFIG_PARAMETERS
from pipelines.deploy.checks import check
from pipelines.deploy.settings import PARAMETERS, Settings
from pipelines.main import run
from pipelines.options import RUN_SETTINGS, parse_run

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/company-extractors"
HERE = Path(sys.executable).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
    return shutil.copytree(
        EXAMPLE, tmp_path_factory.mktemp("example") / "repository", ignore=unwanted
    )


def done(folder: Path, *command: str) -> str:
    program = str(HERE / command[0])
    ran = subprocess.run([program, *command[1:]], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_its_own_tests_and_style(folder: Path) -> None:
    unwanted = ("-p", "no:cacheprovider", "-p", "no:bqemulator")
    assert " passed" in done(folder, "python", "-m", "pytest", *unwanted)
    done(folder, "ruff", "check", "--no-cache", ".")
    done(folder, "ruff", "format", "--no-cache", "--check", ".")


def test_the_pipeline_runs_with_it(folder: Path, tmp_path: Path) -> None:
    home = Home(tmp_path, "acme_models")
    ride = {"id": "r-1", "km": 2.0, "minutes": 7.0, "country": "NO"}
    bodies = [
        {"request": {"rides": [ride]}, "response": {"fares": [9.5]}},
        {"request": {"rides": [{**ride, "country": "XX"}]}, "response": {"fares": [9.5]}},
        {"actual": {"id": "r-1", "paid": 10.0}},
    ]
    home.put(*(plain("ride-fare", body, message_id=f"m{i}") for i, body in enumerate(bodies)))
    # As its own settings say.
    settings = environment(WEIGHBRIDGE_CONFIG=str(folder / "weighbridge.toml"))
    sys.path.insert(0, str(folder))
    try:
        with settings:
            files = ["--input_files", str(home.input), "--home", str(home.folder)]
            report = run([*files, "--no_arize"])
    finally:
        sys.path.remove(str(folder))
    [row] = home.rows("ride_fare")
    assert (row["ride_id"], row["country"], row["fare"]) == ("r-1", "NOR", 9.5)
    assert [row["fare"] for row in home.rows("ride_fare_actuals")] == [10.0]
    assert [message.message_id for message in home.stored("failures")] == ["m1"]
    assert report.rows == 2


def test_its_package_holds_its_models_and_nothing_else(folder: Path) -> None:
    done(folder, "python", "-c", "from setuptools import setup; setup()", "-q", "sdist")
    [archive] = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        modules = {name.partition("/")[2] for name in packed.getnames() if name.endswith(".py")}
    assert modules == {"acme_models/__init__.py", "acme_models/ride_fare.py"}


def test_its_image_adds_what_it_imports_to_ours() -> None:
    text = (EXAMPLE / "Dockerfile").read_text()
    [base] = re.findall(r"^ARG BASE=(\S+)$", text, re.M)
    assert "\nFROM ${BASE}\n" in text
    workflow = yaml.safe_load((EXAMPLE / ".github/workflows/ci.yml").read_text())
    assert workflow["env"]["BASE"] == base
    project = (EXAMPLE / "pyproject.toml").read_text()
    [dependencies] = re.findall(r"^dependencies = (\[.*\])$", project, re.M)
    asked = [Requirement(name) for name in re.findall(r'"([^"]+)"', dependencies)]
    pinned = dict(
        re.findall(r"^([\w-]+)==(\S+) --hash", (EXAMPLE / "requirements.txt").read_text(), re.M)
    )
    assert {one.name for one in asked} <= pinned.keys() | PINS.keys()
    for one in asked:
        assert one.specifier.contains(pinned.get(one.name) or PINS[one.name])
        # A worker installs it before our package, and would look for that in an index.
        assert one.name != "weighbridge-pipeline"
    for source in re.findall(r"^COPY (\S+)", text, re.M):
        assert (EXAMPLE / source).exists()
        assert f"!{source}\n" in (EXAMPLE / ".dockerignore").read_text()


def test_its_workflow_runs_what_it_has() -> None:
    workflow = yaml.safe_load((EXAMPLE / ".github/workflows/ci.yml").read_text())
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    commands = "\n".join(steps)
    for needed in ("python -m pytest", "ruff check", "docker build", "docker push"):
        assert needed in commands
    for name in re.findall(r"-r ([\w./-]+)", commands):
        assert (EXAMPLE / name).exists()


def test_its_settings_name_a_run_that_can_be() -> None:
    file = str(EXAMPLE / "weighbridge.toml")
    options = parse_run(["--config", file, "--env", "production", "--streaming"])
    assert options.extractors_package == "acme_models"
    assert options.tables == "bigquery"
    assert options.needs_this_machine() == ""


def test_the_commands_of_its_readme_have_all_that_a_launch_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme/dist").mkdir(parents=True)
    (tmp_path / "weighbridge").mkdir()
    (tmp_path / "acme/dist/acme_extractors-1.0.0.tar.gz").touch()
    (tmp_path / "weighbridge/setup.py").touch()
    monkeypatch.chdir(tmp_path / "acme")
    monkeypatch.setenv("WEIGHBRIDGE_CONFIG", str(EXAMPLE / "weighbridge.toml"))
    text = (EXAMPLE / "README.md").read_text().replace("\\\n", "")
    commands = re.findall(r"^weighbridge deploy dataflow (.*)", text, re.M)
    assert len(commands) == 2
    command = click.Command(
        "dataflow", params=[*PARAMETERS, *CONFIG_PARAMETERS], context_settings=RUN_SETTINGS
    )
    for words in commands:
        with command.make_context("deploy dataflow", words.split()) as context:
            settings = Settings.of(context.params, context.args, "production")
            assert context.params["input_subscription"]
        check(settings)
        assert bool(settings.setup_file) != bool(settings.sdk_container_image)
