"""What is checked before BigQuery is asked: flags, names, columns, quotas."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import click
import pyarrow as pa
import pytest
from support import environment

from pipelines.options import parse_run
from schemas import ConfigurationError

pytest.importorskip("google.cloud.bigquery")

from pipelines.bigquery.access import bigquery_client
from pipelines.bigquery.names import Dataset, check_columns, check_names
from pipelines.bigquery.quota import check_interval, shortest_interval
from pipelines.bigquery.schema import fields_of
from pipelines.bigquery.tables import bigquery_tables

FLAGS = ["--input_files", "a", "--tables", "bigquery"]
DATASET, STAGING = ["--dataset", "my-project.data"], ["--staging", "gs://bucket/folder"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*FLAGS, *STAGING], "needs a --dataset"),
        ([*FLAGS, *DATASET], "needs --staging gs://BUCKET/PREFIX"),
        ([*FLAGS, *STAGING, "--dataset", "data"], "not of the form PROJECT.DATASET"),
        ([*FLAGS, *STAGING, "--dataset", "my-project:data"], "not of the form PROJECT.DATASET"),
        ([*FLAGS, *STAGING, "--dataset", "my-project.my-data"], "not of the form PROJECT.DATASET"),
        ([*FLAGS, *DATASET, "--staging", "bucket/folder"], "not of the form gs://BUCKET/PREFIX"),
        ([*FLAGS, *DATASET, "--staging", "gs://"], "not of the form gs://BUCKET/PREFIX"),
        (["--input_files", "a", *DATASET], "--dataset is for --tables bigquery"),
        (["--input_files", "a", *STAGING], "--staging is for --tables bigquery"),
    ],
)
def test_flags_that_do_not_go_together(arguments: list[str], message: str) -> None:
    with pytest.raises(click.UsageError, match=message):
        parse_run(arguments)


def test_a_follower_loads_every_five_minutes_by_default() -> None:
    options = parse_run([*FLAGS, *DATASET, *STAGING, "--follow"])
    assert options.commit_interval == 300
    tables = bigquery_tables(options)
    assert (tables.interval, tables.dataset) == (300, Dataset("my-project", "data"))
    assert pickle.loads(pickle.dumps(tables)) == tables
    assert bigquery_tables(parse_run([*FLAGS, *DATASET, *STAGING])).interval is None


def test_a_project_of_a_domain_has_a_colon_and_dots() -> None:
    options = parse_run([*FLAGS, *STAGING, "--dataset", "acme.example:scales.data"])
    assert bigquery_tables(options).dataset == Dataset("acme.example:scales", "data")


@pytest.mark.parametrize(
    ("tables", "interval"), [(4, 64), (66, 64), (100, 96), (1000, 960), (2000, 1920)]
)
def test_the_interval_that_fits_is_named(tables: int, interval: int) -> None:
    assert shortest_interval(tables) == interval
    check_interval(interval, tables)
    with pytest.raises(ConfigurationError, match=f"use --commit_interval {interval}s or longer"):
        check_interval(interval - 1, tables)
    with pytest.raises(ConfigurationError, match=f"use --commit_interval {interval}s or longer"):
        check_interval(0, tables)


@pytest.mark.parametrize("interval", [64, 300, 960])
def test_the_quotas_hold_for_all_that_is_let_through(interval: int) -> None:
    most = max(n for n in range(1, 3000) if shortest_interval(n) <= interval)
    assert 86_400 / interval < 1_500
    assert most * 86_400 / interval < 100_000


@pytest.mark.parametrize(
    "names",
    [
        [["models.scores"], ["models.scores_latest"]],
        [["models.scores"], ["models.scores_joined"]],
        [["models.scores", "models.scores_v2"], ["models.scores_latest"]],
        [["models.weighbridge_deliveries"]],
        [["models.weighbridge_skipped_latest"]],
    ],
)
def test_tables_that_meet_in_the_dataset(names: list[list[str]]) -> None:
    with pytest.raises(ConfigurationError, match="would both need"):
        check_names(names)
    check_names([["models.scores", "models.scores_v2"], ["models.scores_actuals"], ["models.w"]])


@pytest.mark.parametrize("columns", [["größe"], ["a" * 301], ["Weight", "weight"]])
def test_columns_that_bigquery_cannot_hold(columns: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="rename"):
        check_columns("models.things", columns)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (pa.list_(pa.list_(pa.int64())), "no lists of lists"),
        (pa.struct([("inner", pa.list_(pa.list_(pa.int64())))]), "thing.inner: .* lists of lists"),
        (pa.decimal128(10, 2), "no column for decimal"),
    ],
)
def test_types_that_bigquery_has_not(kind: pa.DataType, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fields_of("models.things", pa.schema([("thing", kind)]))


def test_no_credentials_are_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    missing = str(tmp_path / "key.json")
    with (
        environment(GOOGLE_APPLICATION_CREDENTIALS=missing),
        pytest.raises(ConfigurationError, match="gcloud auth application-default login"),
    ):
        bigquery_client("my-project")


@pytest.mark.slow
def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.avro").touch()
    program = "import sys; sys.modules['google.cloud.bigquery'] = None\n"
    program += "from pipelines.cli import main; main(sys.argv[1:])"
    arguments = ["run", *FLAGS, *DATASET, *STAGING, "--no_arize"]
    arguments += ["--input_files", str(tmp_path / "a.avro")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    wanted = "Error: --tables bigquery needs google.cloud.bigquery: pip install"
    assert (done.returncode, done.stdout.strip()) == (2, "")
    assert done.stderr.startswith(wanted)
