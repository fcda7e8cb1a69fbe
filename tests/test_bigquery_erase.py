"""Rows erased from BigQuery: gone from the table, staged files and the outbox, for good."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import GoogleEmulators
from forked import killed_at
from google.cloud.bigquery import LoadJobConfig
from google_emulators import BUCKET, InBigQuery
from support import NOW, Home, environment, plain, scored
from test_commit import rows
from test_erase import SECRET, fill

from extractors import load_extractors
from pipelines.bigquery.erase import delete_rows
from pipelines.bigquery.load import job_id_of, wait_for_loads
from pipelines.bigquery.tables import BigQueryTables
from pipelines.cli import _main
from pipelines.erase.find import _parsed, find_rows
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver
from pipelines.tables import Tables

NAME = "models.scores"
NOWHERE = ("--arize_url", "http://127.0.0.1:9")


@pytest.fixture
def home(
    tmp_path: Path, google: GoogleEmulators, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InBigQuery]:
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr("pipelines.arize.ATTEMPTS", 1)
    monkeypatch.setattr("pipelines.arize.BACKOFF_SECONDS", 0.01)
    with environment(**google.environment, ARIZE_API_KEY="key", ARIZE_SPACE_ID="space"):
        yield InBigQuery(tmp_path, google)


@pytest.fixture
def tables(home: InBigQuery) -> Iterator[BigQueryTables]:
    with home.tables() as tables:
        extractors = load_extractors("odd").values()
        tables.prepare(item for item in extractors if item.model_id == "scores")
        yield tables


def erasing(home: InBigQuery, *more: str, where: str = f"case_id = '{SECRET}'") -> list[str]:
    own = [*home.place(), "--extractors_package", home.package]
    return ["tables", "erase", *own, "--model", "scores", "--where", where, *more]


def staged(home: InBigQuery) -> dict[str, str]:
    """What is in each staged file of the model."""
    folder = home.google.root / BUCKET / home.dataset
    return {
        path.name: str(pq.read_table(path, partitioning=None).to_pylist())
        for path in folder.glob("scores*/**/*.parquet")
    }


def cases(home: InBigQuery, table: str) -> list[str]:
    return [row["case_id"] for row in home.rows(table)]


@pytest.mark.slow
def test_a_person_is_gone_and_old_input_changes_nothing(
    home: InBigQuery, capsys: pytest.CaptureFixture[str]
) -> None:
    with ArizeReceiver("key", "space") as receiver:
        fill(home, "--arize_url", receiver.url)
        before, jobs, sent = staged(home), home.jobs(), len(receiver.uploads)
        assert sum(SECRET in text for text in before.values()) == 3
        capsys.readouterr()
        assert _main(erasing(home, "--dry_run")) == 0
        assert "nothing was changed" in capsys.readouterr().out
        assert len(cases(home, "scores")) == 4
        assert _main(erasing(home)) == 0
        out = capsys.readouterr().out
        lines = [line.split() for line in out.splitlines()]
        assert ["models.scores", "2", "0", "2", "0"] in lines
        assert ["models.scores_actuals", "1", "0", "1", "0"] in lines
        assert SECRET not in out
        assert (cases(home, "scores"), cases(home, "scores_actuals")) == (["c-0", "o-0"], ["o-0"])
        after = staged(home)
        assert before.keys() <= after.keys()  # no name is another one
        assert not any(SECRET in text for text in after.values())
        for number in range(3):
            home.run("--arize_url", receiver.url, files=str(home.input / f"f{number}.avro"))
        told = [name for name in home.jobs() if name.startswith("weighbridge_skipped")]
        assert {name: home.jobs()[name] for name in jobs} == jobs
        assert len(home.jobs()) == len(jobs) + len(told)  # nothing was loaded once more
        assert len(receiver.uploads) == sent
        assert staged(home) == after
        home.run("--no_arize")  # in another list of files: the others are there twice
        assert set(cases(home, "scores")) == {"c-0", "o-0"}
        assert cases(home, "scores_latest") == ["c-0", "o-0"]
        assert not any(SECRET in text for text in staged(home).values())
        assert _main(erasing(home)) == 0
        assert "models.scores_actuals 0 0 0 0" in " ".join(capsys.readouterr().out.split())
    skipped = home.rows("weighbridge_skipped_latest")
    assert {row["reason"] for row in skipped} == {"erased"}
    assert len(skipped) == 3


@pytest.mark.slow
def test_what_waits_for_arize_is_not_sent(
    home: InBigQuery, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(home, *NOWHERE)
    outbox = Outbox(home.folder)
    assert len(outbox.entries()) == 3
    capsys.readouterr()
    assert _main(erasing(home)) == 0
    assert "models.scores 2 2 2 0" in " ".join(capsys.readouterr().out.split())
    left = [ref for entry in outbox.entries() for ref in outbox.read(entry)[1]]
    assert sorted(ref.rows for ref in left) == [1, 2]
    with ArizeReceiver("key", "space") as receiver:
        home.run("--arize_url", receiver.url)
        ids = {id_ for each in receiver.uploads for id_ in each.table["prediction_id"].to_pylist()}
    assert ids == {"c-0", "o-0"}
    assert outbox.entries() == set()


STEPS = ["before note", "after note", "after staged file", "before entry of the rest"]
STEPS += ["after entry of the rest", "after job", "before deletion", "after deletion"]


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_half_way_it_is_to_be_called_again(home: InBigQuery, step: str) -> None:
    fill(home, *NOWHERE)
    killed_at(step, *erasing(home))
    assert _main(erasing(home)) == 0
    assert (cases(home, "scores"), cases(home, "scores_actuals")) == (["c-0", "o-0"], ["o-0"])
    assert not any(SECRET in text for text in staged(home).values())
    outbox = Outbox(home.folder)
    left = [ref for entry in outbox.entries() for ref in outbox.read(entry)[1]]
    assert sorted(ref.rows for ref in left) == [1, 2]
    told = [row["envelope_id"] for row in home.rows("weighbridge_skipped_latest")]
    assert len(told) == len(set(told)) == 3


def test_a_file_that_was_staged_before_is_loaded_without_the_rows(
    home: InBigQuery, tables: BigQueryTables
) -> None:
    def write(*ids: str) -> list[object]:
        data = rows(list(ids)).drop_columns(["label"])
        columns = [
            name for name in data.column_names if name not in ("ingest_time", "model_version")
        ]
        data = data.select(columns).append_column("ingest_time", data["event_time"])
        return tables.write_files(NAME, data).files

    outbox = Outbox(home.folder)
    tables.commit(NAME, write("a", "b"), outbox)
    twin, alone = write("a", "c"), write("a")
    extractors = load_extractors("odd")
    found = find_rows(tables, extractors, "scores", "envelope_id = 'a'")
    delete_rows(tables, NAME, *found[NAME])
    assert home.row_ids("scores") == ["b:0", "b:1"]
    for _ in range(2):
        assert tables.commit(NAME, alone, outbox).files == ()  # nothing of it is left
        commit = tables.commit(NAME, twin, outbox)
        assert sum(ref.rows for ref in commit.files) in (2, 0)
        assert home.row_ids("scores") == ["b:0", "b:1", "c:0", "c:1"]
    left = [ref for entry in outbox.entries() for ref in outbox.read(entry)[1]]
    assert [ref.rows for ref in left] == [2, 2]


def test_load_jobs_that_are_under_way_are_waited_for(
    home: InBigQuery, tables: BigQueryTables
) -> None:
    table, client = tables.table(NAME), tables.client
    [ref] = tables.write_files(NAME, rows(["a"]).drop_columns(["label"])).files
    with home.google.faults(polls=3):
        config = LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
        client.load_table_from_uri(
            [ref.path],
            table.reference,
            job_id=job_id_of(table, "x"),
            job_config=config,
        )
        assert len(list(client.list_jobs(state_filter="running"))) == 1
        wait_for_loads(client, table)
        assert list(client.list_jobs(state_filter="running")) == []


EXPRESSIONS = [
    "country = 'NO'",
    "country != 'NO'",
    "country in ('NO', 'SE')",
    "country not in ('NO', 'SE')",
    "country is null and amount < 30.5",
    "country is not null or amount >= 40",
    "case_id like 'a%' and not (amount = 20.0)",
    "case_id not like 'a%'",
    "not (country = 'NO' or label = 'yes')",
    f"event_time < '{(NOW - timedelta(hours=1)).isoformat()}'",
    f"seen_at > '{NOW.isoformat()}'",
    "score is nan or score > 0.5",
    "country = '''; --'",
    "true",
]


@pytest.mark.slow
def test_a_filter_means_the_same_as_in_iceberg(
    home: InBigQuery, tables: BigQueryTables, tmp_path: Path
) -> None:
    beside = Home(tmp_path / "iceberg")
    beside.input = home.input
    for number, country in enumerate(["NO", "SE", None, "DK", "'; --", None]):
        body = scored(number / 5, prefix="ab"[number % 2])
        body["request"]["cases"][0] |= {"country": country, "amount": 10.0 * number}
        body["context"] = {"seen_at": (NOW + timedelta(hours=number - 3)).isoformat()}
        at = NOW - timedelta(hours=number % 3)
        home.put(plain("scores", body, message_id=f"m{number}", at=at), name=f"f{number}")
    home.run("--no_arize")
    beside.run("--no_arize")
    sizes = set()
    for text in EXPRESSIONS:
        found = [
            sorted(each.matching(NAME, _parsed(text), ("row_id",))["row_id"].to_pylist())
            for each in (tables, Tables(beside.folder))
        ]
        assert found[0] == found[1], text
        sizes.add(len(found[0]))
    assert sizes >= {1, 2, 3, 4, 6}


def test_a_wrong_expression_is_said_without_its_values(
    home: InBigQuery, tables: BigQueryTables, capsys: pytest.CaptureFixture[str]
) -> None:
    for where, said in [
        (f"case = '{SECRET}'", "no table of scores has all of"),
        (f"amount = '{SECRET}'", "not of its column's type"),
        ("case_id = 3", "not of its column's type"),
    ]:
        assert _main(erasing(home, where=where)) == 2
        err = capsys.readouterr().err
        assert said in " ".join(err.split())
        assert SECRET not in err


def test_values_are_parameters_and_no_text(home: InBigQuery, tables: BigQueryTables) -> None:
    found = tables.matching(NAME, _parsed(f"case_id = '{SECRET}'"), ("row_id", "event_time"))
    assert (found.num_rows, found.schema.names) == (0, ["row_id", "event_time"])
    assert found.schema.field("event_time").type == pa.timestamp("us", "UTC")
    queries = [job for job in tables.client.list_jobs(all_users=True) if job.job_type == "query"]
    assert not any(SECRET in job.query for job in queries)
