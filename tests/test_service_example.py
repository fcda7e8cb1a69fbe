"""The example of a model service: its own tests, and that its files fit the service."""

import http.client
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import eventually
from support import stored
from test_service import read

from weighbridge.service import Settings
from weighbridge.service.settings import PREFIX

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/service"
HERE = Path(sys.executable).parent
WINE = {"alcohol": 14.2, "malic_acid": 1.7, "color_intensity": 5.6, "hue": 1.04, "proline": 1065}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with a trained model."""
    folder = tmp_path_factory.mktemp("example") / "service"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("model.pickle"))
    run(folder, "python", "-m", "wine_cultivar.train")
    return folder


def run(folder: Path, program: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(HERE / program), *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_its_own_tests_and_style(folder: Path) -> None:
    # The emulator of BigQuery brings a plug-in that cannot be imported without Docker's client.
    unwanted = ("-p", "no:cacheprovider", "-p", "no:bqemulator")
    assert " passed" in run(folder, "python", "-m", "pytest", *unwanted)
    run(folder, "ruff", "check", "--no-cache", ".")
    run(folder, "ruff", "format", "--no-cache", "--check", ".")


def image() -> tuple[dict[str, str], list[str]]:
    """Environment and command of the image."""
    text = (EXAMPLE / "Dockerfile").read_text().replace("\\\n", " ")
    [environment] = re.findall(r"^ENV (.*)$", text, re.M)
    [command] = re.findall(r"^CMD (.*)$", text, re.M)
    return dict(word.split("=", 1) for word in shlex.split(environment)), json.loads(command)


@pytest.fixture
def port(folder: Path, tmp_path: Path) -> Iterator[int]:
    """Of the service as the image runs it, which captures into a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment, command = image()
    environment |= {
        "PYTHONPATH": str(folder),
        "WEIGHBRIDGE_DESTINATION": str(tmp_path / "captured"),
        "WEIGHBRIDGE_SPOOL": str(tmp_path / "spool"),
    }
    command = [word.replace("0.0.0.0", "127.0.0.1").replace("8080", str(port)) for word in command]
    process = subprocess.Popen([str(HERE / command[0]), *command[1:]], env=environment)
    try:
        eventually(lambda: ask(port, "/readyz")[0] == 200, 30)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, path: str, body: object = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError:
        return 0, None


@pytest.mark.slow
def test_the_image_runs_the_service(port: int, tmp_path: Path) -> None:
    body = {"wines": [WINE]}
    path = "/v1/models/wine-cultivar:predict"
    assert ask(port, path, body) == (200, {"cultivars": ["class_0"]})
    status, answer = ask(port, path, {"wines": [{"alcohol": "strong"}]})
    assert (status, answer["error"][:21]) == (400, 'send {"wines": [{…}]}')
    # A batch is sent at the latest when the service ends; the folder is looked at each time.
    eventually(lambda: len(read(list(stored(tmp_path / "captured")))) == 2, 20)
    [one] = [one for one in read(list(stored(tmp_path / "captured"))) if one.status == 200]
    assert (one.request, one.response) == (body, {"cultivars": ["class_0"]})
    assert set(one.context["probabilities"][0]) == {"class_0", "class_1", "class_2"}


def test_every_variable_is_a_setting() -> None:
    known = {PREFIX + one.name.upper() for one in fields(Settings)} | {f"{PREFIX}SAMPLE"}
    for name in ("Dockerfile", "kubernetes.yaml", "README.md", ".github/workflows/ci.yml"):
        named = set(re.findall(rf"{PREFIX}[A-Z_]+", (EXAMPLE / name).read_text()))
        assert named
        assert named <= known, name


def test_the_manifest_fits_the_service(port: int) -> None:
    deployment, service, budget = yaml.safe_load_all((EXAMPLE / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = container[probe]["httpGet"]
        assert (get["port"], ask(port, get["path"])[0]) == ("http", 200)
    variables = {one["name"]: one["value"] for one in container["env"]}
    from_environment, command = image()
    settings = Settings.of({}, {**from_environment, **variables})
    assert settings.drain_seconds > 0
    budgeted = settings.drain_seconds + settings.close_seconds
    assert pod["terminationGracePeriodSeconds"] > budgeted
    assert str(container["ports"][0]["containerPort"]) in command
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    [spool] = [one for one in pod["volumes"] if one["name"] == mounts[settings.spool]]
    assert spool["emptyDir"]["sizeLimit"] == "1Gi"
    assert settings.spool_bytes < 1 << 30
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == budget["spec"]["selector"]["matchLabels"]


def test_the_workflow_runs_what_the_example_has() -> None:
    workflow = yaml.safe_load((EXAMPLE / ".github/workflows/ci.yml").read_text())
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    commands = "\n".join(steps)
    for needed in ("-m pytest", "-m wine_cultivar.train", "ruff check", "docker build", "/predict"):
        assert needed in commands
    for name in re.findall(r"-r ([\w./-]+)", commands):
        assert (EXAMPLE / name).exists()


@pytest.mark.slow
def test_the_extra_installs_what_the_service_needs(tmp_path: Path) -> None:
    unwanted = shutil.ignore_patterns("*.egg-info", "build", "__pycache__")
    handlers = shutil.copytree(ROOT / "handlers", tmp_path / "handlers", ignore=unwanted)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    for arguments in (
        ["-m", "pip", "install", "--quiet", f"{handlers}[service]"],
        ["-c", "import uvicorn, weighbridge.service"],
    ):
        done = subprocess.run([str(python), *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
