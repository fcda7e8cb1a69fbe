"""What is staged for a streaming job runs in a fresh environment, and gives a local run's rows."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elsewhere import Elsewhere, in_bigquery, in_rest_catalog
from google_emulators import NotInstalled
from staged import Staged, fresh_environment, in_python, run_graph, stage
from support import Home, packed, plain, scored
from test_layout import PACKAGES, files

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/company-extractors"


def ride(number: int, country: str = "NO") -> dict[str, Any]:
    one = {"id": f"r-{number}", "km": 2.0 + number, "minutes": 7.0, "country": country}
    return {"request": {"rides": [one]}, "response": {"fares": [9.5 + number]}}


TWICE = packed("ride-fare", [ride(number) for number in range(3)])
MESSAGES = [
    TWICE,
    packed("ride-fare", [ride(number) for number in range(3, 40)], first=3),
    TWICE,
    plain("ride-fare", {"actual": {"id": "r-1", "paid": 10.0}}, message_id="paid"),
    plain("ride-fare", ride(41, country="XX"), message_id="refused"),
    plain("ride-fare", b"{", message_id="broken"),
    plain("ride-fare", {**ride(42), "request": None}, message_id="skipped", status="503"),
    plain("nobody", scored(0.5), message_id="parked"),
]


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Elsewhere]:
    """Iceberg tables, unless a test names those of BigQuery."""
    if getattr(request, "param", "iceberg") == "iceberg":
        place = in_rest_catalog(request.getfixturevalue("gs"), tmp_path)
    else:
        place = in_bigquery(request.getfixturevalue("google"), tmp_path)
    try:
        with place as found:
            yield found
    except NotInstalled as missing:
        pytest.skip(str(missing))


@pytest.fixture
def company(tmp_path: Path) -> Path:
    """A checkout of the company's package, and its source distribution in `dist/`."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
    folder = shutil.copytree(EXAMPLE, tmp_path / "company", ignore=unwanted)
    build = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "sdist"]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def staged(elsewhere: Elsewhere, company: Path, tmp_path: Path) -> Staged:
    [package] = (company / "dist").iterdir()
    return stage(
        tmp_path / "job",
        *elsewhere.arguments,
        "--extractors_package=acme_models",
        f"--setup_file={ROOT}/setup.py",
        f"--extra_package={package}",
        cwd=company,
    )


def local(folder: Path, company: Path) -> Home:
    """The same messages, run on this machine."""
    home = Home(folder / "local", "acme_models")
    home.put(*MESSAGES)
    sys.path.insert(0, str(company))
    try:
        home.run()
    finally:
        sys.path.remove(str(company))
    return home


def check_rows(elsewhere: Elsewhere, folder: Path, company: Path) -> None:
    elsewhere.check(local(folder, company), "models.ride_fare", "models.ride_fare_actuals")
    assert len(elsewhere.rows("models.ride_fare")) == 40


@pytest.mark.parametrize("elsewhere", ["iceberg", "bigquery"], indirect=True)
def test_a_fresh_environment_runs_what_is_staged(
    staged: Staged, elsewhere: Elsewhere, company: Path, tmp_path: Path
) -> None:
    # In the order in which a worker installs them.
    packages = [staged.file("acme_extractors-1.0.0.tar.gz"), staged.file("workflow.tar.gz")]
    python = fresh_environment(tmp_path / "fresh", *packages)
    workers = in_python(staged.graph, python, tmp_path / "empty")
    assert run_graph(workers, MESSAGES) == "DONE"
    check_rows(elsewhere, tmp_path, company)


def test_exactly_our_packages_are_staged(staged: Staged) -> None:
    with tarfile.open(staged.file("workflow.tar.gz")) as packed:
        members = [member.name for member in packed if member.isfile()]
    names = {name.partition("/")[2] for name in members}
    modules = {name for name in names if name.endswith((".py", ".avsc", "py.typed"))}
    wanted = {"setup.py"}
    for package, source in PACKAGES.items():
        place = f"handlers/{package}" if package == "weighbridge" else package
        for suffix in (".py", ".avsc", "py.typed"):
            wanted |= {f"{place}/{name}" for name in files(source, suffix)}
    assert modules == wanted
    rest = {name.partition("/")[0] for name in names - modules}
    about = {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}
    assert rest <= about | {"weighbridge_pipeline.egg-info"}
    assert staged.file("extra_packages.txt").read_text() == "acme_extractors-1.0.0.tar.gz\n"
    files_there = {path.name for path in staged.folder.rglob("*") if path.is_file()}
    ours = {"acme_extractors-1.0.0.tar.gz", "extra_packages.txt", "workflow.tar.gz"}
    assert files_there == ours | {"pipeline.pb"}


@pytest.mark.parametrize(
    ("left_out", "missing"), [("workflow", "pipelines"), ("acme_extractors-1.0.0", "acme_models")]
)
def test_a_package_that_is_left_out_is_missed(
    staged: Staged, tmp_path: Path, left_out: str, missing: str
) -> None:
    """What the other test sees would not be seen if the launching host's packages were used."""
    names = {"acme_extractors-1.0.0", "workflow"} - {left_out}
    packages = [staged.file(f"{name}.tar.gz") for name in sorted(names)]
    python = fresh_environment(tmp_path / "fresh", *packages)
    workers = in_python(staged.graph, python, tmp_path / "empty")
    with pytest.raises(RuntimeError, match=f"No module named '{missing}'"):
        run_graph(workers, MESSAGES)
