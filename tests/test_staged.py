"""What is staged for a streaming job runs in a fresh environment, and gives a local run's rows."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogs import NotInstalled, rest_server
from staged import Staged, fresh_environment, in_python, run_graph, stage
from support import Home, packed, plain, scored
from test_layout import PACKAGES, files

from pipelines.address import Address
from pipelines.catalog import CatalogAddress
from pipelines.store import Store
from pipelines.tables import Tables
from weighbridge.archive import Message, read_archive

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


class Elsewhere:
    """Tables and a home that workers of other machines reach: a catalog's server, and a bucket.

    Both are on this machine. The launcher goes by names, and refuses those that mean it.
    """

    def __init__(self, home: str, uri: str) -> None:
        self.home = Address(home)
        self.uri = uri.replace("127.0.0.1", socket.gethostname())
        self.arguments = [f"--home={self.home}", f"--catalog_uri={self.uri}", "--no_arize"]

    def rows(self, table: str) -> list[dict[str, Any]]:
        tables = Tables(self.home, CatalogAddress(self.uri, ""))
        return comparable(tables.load(table).scan().to_arrow().to_pylist())

    def stored(self, folder: str) -> list[Message]:
        store = Store(self.home)
        found: list[Message] = []
        for name in store.names(folder, ".avro"):
            found += read_archive(io.BytesIO(store.read(name)))
        return sorted(found, key=lambda message: message.message_id)


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the file of a dead letter: a stream shares messages out to others."""
    kept = [{k: v for k, v in row.items() if k not in ("file", "position")} for row in rows]
    return sorted(kept, key=lambda row: str(row["row_id"]))


@pytest.fixture
def elsewhere(gs: str, tmp_path: Path) -> Iterator[Elsewhere]:
    settings = {
        "CATALOG_IO__IMPL": "org.apache.iceberg.gcp.gcs.GCSFileIO",
        "CATALOG_GCS_SERVICE_HOST": os.environ["STORAGE_EMULATOR_HOST"],
        "CATALOG_GCS_NO__AUTH": "true",
        "CATALOG_WAREHOUSE": f"{gs}/{tmp_path.name}/tables",
    }
    try:
        with rest_server(tmp_path, **settings) as uri:
            yield Elsewhere(f"{gs}/{tmp_path.name}/home", uri)
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
    """That tables, dead letters and parked envelopes are those of a run on this machine."""
    home = local(folder, company)
    for table in ("models.ride_fare", "models.ride_fare_actuals", "weighbridge.failures"):
        namespace, _, name = table.partition(".")
        rows = elsewhere.rows(table)
        assert rows == comparable(home.rows(name, namespace)) != []
    for table in ("parked", "skipped"):
        rows = elsewhere.rows(f"weighbridge.{table}")
        assert rows == comparable(home.rows(table, "weighbridge")) != []
    for name in ("failures", "parked"):
        ours = sorted(home.stored(name), key=lambda message: message.message_id)
        assert elsewhere.stored(name) == ours != []
    assert len(elsewhere.rows("models.ride_fare")) == 40


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
