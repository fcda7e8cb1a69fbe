"""Object stores that refuse, or do not answer: a message of ours, and an end to the attempts."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from catalogs import answering_server
from support import Home, environment, packed, scored

from pipelines import table_io
from pipelines.address import folder_of
from pipelines.cli import main
from pipelines.listing import match_files
from pipelines.objects import TableFiles, settings
from pipelines.store import Store
from pipelines.table_io import TableIO, UnreachableError
from schemas import ConfigurationError

NOWHERE = "http://127.0.0.1:9"
CASES = [
    (401, PermissionError, "Cloud Storage refuses who we are"),
    (403, PermissionError, "Cloud Storage does not allow it"),
    (404, FileNotFoundError, ""),
    (503, UnreachableError, "Cloud Storage does not answer"),
]


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_io, "RETRY_FOR", timedelta(seconds=0.1))


@pytest.fixture
def closed() -> Iterator[None]:
    """Cloud Storage is a port that nobody listens at."""
    with environment(STORAGE_EMULATOR_HOST=NOWHERE):
        yield


@pytest.mark.parametrize(("status", "kind", "message"), CASES)
def test_what_cloud_storage_says_is_said_in_our_words(
    status: int, kind: type[OSError], message: str
) -> None:
    address = f"gs://answers-{status}/a"
    with answering_server(status) as url, environment(STORAGE_EMULATOR_HOST=url):
        store, table = Store(folder_of(address)), TableFiles(address, TableIO(settings()))
        for act in (
            lambda: store.read("x"),
            lambda: store.write("x", b"y"),
            lambda: table.write("x", b"y"),
        ):
            with pytest.raises(kind) as caught:
                act()
            if message:
                assert str(caught.value) == f"{address}: {message}"


@pytest.mark.usefixtures("closed")
def test_files_of_tables_are_not_asked_for_for_ever() -> None:
    """Also by an object that came to a worker."""
    for io in (TableIO(settings()), pickle.loads(pickle.dumps(TableIO(settings())))):
        with pytest.raises(OSError, match="Retry policy exhausted"):
            io.new_input("gs://closed/table/a.json").exists()


def test_without_credentials_nothing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(ConfigurationError, match="--archive: no Google Cloud credentials: log in"):
        match_files("gs://without-credentials/a", "--archive")
    with pytest.raises(UnreachableError, match="no Google Cloud credentials: log in"):
        TableIO().new_input("gs://without-credentials/t").exists()


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ("--input_files gs://closed-1/a", 2, "--input_files: gs://closed-1/a: "),
        ("--warehouse gs://closed-2/w", 2, "--warehouse gs://closed-2/w cannot be used: "),
        ("--home gs://closed-3/h", 1, "the run failed: gs://closed-3/h: "),
    ],
)
def test_a_run_says_where_it_cannot_go(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: str,
    code: int,
    message: str,
) -> None:
    home = Home(tmp_path)
    home.put(packed("scores", [scored(0.5)]))
    places = {
        "--input_files": str(home.input),
        "--home": str(home.folder),
        "--catalog_uri": f"sqlite:///{tmp_path}/catalog.db",
        "--warehouse": f"file://{tmp_path}/warehouse",
        given.split()[0]: given.split()[1],
    }
    arguments = [part for pair in places.items() for part in pair]
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments, "--no_arize"])
    assert ended.value.code == code
    said = " ".join(capsys.readouterr().err.split())
    assert f"{message}Cloud Storage does not answer" in said
    assert "Traceback" not in said
    assert "File " not in said
