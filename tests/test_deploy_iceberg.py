"""Submission with Iceberg tables: what is prepared and sent, and that it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from catalogs import postgres_server
from deployed import Cloud, settings
from elsewhere import Elsewhere, in_postgres, in_rest_catalog
from google_emulators import BUCKET, NotInstalled
from staged import in_this_process, run_graph
from support import Home, environment, packed, plain, scored, write_archive

from pipelines.cli import _main
from pipelines.deploy.record import recorded

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
SCORES = packed("scores", [scored(0.5), scored(0.25)])
MESSAGES = [
    SCORES,
    SCORES,
    packed("scores", [scored(0.75)], first=2),
    plain("scores", b"{", message_id="broken"),
    plain("scores", {"request": None, "response": None}, message_id="skipped", status="503"),
    plain("nobody", scored(0.5), message_id="parked"),
]
TABLE = "models.scores"


@pytest.fixture(params=["rest", "postgres"])
def elsewhere(cloud: Cloud, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Elsewhere]:
    """Tables and home in the bucket, and the settings that say so."""
    bucket = f"gs://{BUCKET}"
    try:
        with ExitStack() as running:
            if request.param == "rest":
                place = in_rest_catalog(bucket, tmp_path)
            else:
                # Not below pytest's folder, which is for its own user only.
                folder = Path(running.enter_context(TemporaryDirectory()))
                uri = running.enter_context(postgres_server(folder))
                place = in_postgres(uri, bucket, tmp_path)
            found = running.enter_context(place)
            Path("weighbridge.toml").write_text(_settings(cloud, found))
            yield found
    except NotInstalled as missing:
        pytest.skip(str(missing))


def _settings(cloud: Cloud, elsewhere: Elsewhere) -> str:
    given = (word.removeprefix("--").partition("=") for word in elsewhere.arguments[:-1])
    place = "".join(f"{name} = {json.dumps(value)}\n" for name, _, value in given)
    text = re.sub("home = .*\n", "", settings(cloud.dataset))
    text, count = re.subn("tables = .*\ndataset = .*\nstaging = .*\n", place, text)
    assert count == 1
    return text


def test_what_is_submitted_gives_the_rows_of_a_local_run(
    cloud: Cloud, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    status, out, err = cloud.deploy("--warehouse=gs://not-there/x")
    assert (status, out) == (2, "")
    assert "there is no bucket gs://not-there" in err
    assert cloud.dataflow.calls == []
    with environment(PYICEBERG_CATALOG__WEIGHBRIDGE__TOKEN="open-sesame"):
        status, out, err = cloud.deploy()
    assert (status, err) == (0, "")
    assert "note: workers do not have " in out
    assert "PYICEBERG_CATALOG__WEIGHBRIDGE__TOKEN of this machine" in out
    assert f"created table {TABLE}\n" in out
    assert elsewhere.rows(TABLE) == []
    sent = json.dumps(cloud.job).encode() + (cloud.staged() / "pipeline.pb").read_bytes()
    assert b"sesame" not in sent
    record = recorded(cloud.graph())
    assert record is not None
    given = dict(word.removeprefix("--").split("=", 1) for word in elsewhere.place)
    assert given.items() <= record.options.items()
    assert record.options["tables"] == "iceberg"
    assert run_graph(in_this_process(cloud.graph()), MESSAGES) == "DONE"
    home = Home(tmp_path / "local", "mended")
    home.put(*MESSAGES)
    home.run()
    elsewhere.check(home, TABLE)
    assert [row["score"] for row in elsewhere.rows(TABLE)] == [0.5, 0.25, 0.75]


@pytest.mark.parametrize("elsewhere", ["postgres"], indirect=True)
def test_workers_have_no_driver_of_postgresql_unless_an_image_brings_it(
    cloud: Cloud, elsewhere: Elsewhere
) -> None:
    more = f"--setup_file={ROOT}/setup.py", "--extractors_package=extractors"
    status, out, err = cloud.deploy("--dry_run", *more)
    assert (status, out) == (2, "")
    assert "workers would not have the package psycopg, with the driver of --catalog_uri" in err


@pytest.mark.parametrize("elsewhere", ["rest"], indirect=True)
def test_parked_envelopes_are_brought_into_the_same_tables(
    cloud: Cloud, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in" / "a.avro", [SCORES])
    run = ["run", "--env=prod", "--input_files=in", "--extractors_package=extractors"]
    assert _main(run) == 0
    assert "parked, as nobody registered their model: 2" in cloud.capsys.readouterr().out
    status, out, err = cloud.deploy("--replay_parked")
    assert (status, err) == (0, "")
    assert "parked messages: 1 done" in out
    home = Home(tmp_path / "local", "mended")
    home.put(SCORES)
    home.run()
    assert elsewhere.rows(TABLE) == home.rows("scores") != []
    status, out, err = cloud.deploy("--yes")
    assert (status, err) == (0, "")
    assert "  options: as before\n  models: as before\n  steps: " in out
    assert "created" not in out
    assert elsewhere.rows(TABLE) == home.rows("scores")
