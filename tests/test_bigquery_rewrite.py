"""`weighbridge replay --rewrite` puts rows in the place of others, in tables in BigQuery."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import GoogleEmulators
from forked import killed_at
from google.cloud.bigquery import SchemaField, Table
from google_emulators import InBigQuery
from support import NOW, environment, packed, scored

from pipelines.bigquery import replace
from pipelines.bigquery.replace import drop_waiting
from pipelines.cli import _main
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver

NAME = "models.scores"


@pytest.fixture
def home(tmp_path: Path, google: GoogleEmulators) -> Iterator[InBigQuery]:
    with environment(**google.environment, ARIZE_API_KEY="key", ARIZE_SPACE_ID="space"):
        yield InBigQuery(tmp_path, google)


def words(home: InBigQuery, *more: str) -> list[str]:
    own = [*home.place(), "--extractors_package", home.package, "--rewrite"]
    return ["replay", "--archive", str(home.input), "--model", "scores", *own, *more]


def scores(home: InBigQuery) -> list[tuple[str, float]]:
    return [(row["row_id"], row["score"]) for row in home.rows("scores")]


def tables_of(home: InBigQuery) -> list[str]:
    return [item.table_id for item in home.google.client.list_tables(home.dataset)]


@pytest.mark.slow
def test_rewritten_rows_stand_in_the_place_of_the_old_ones(home: InBigQuery) -> None:
    old = [packed("scores", [scored(0.25, 0.5, prefix=f"o{i}")], first=i) for i in range(3)]
    day = packed("scores", [scored(0.5, prefix="y")], first=7, at=NOW - timedelta(days=1))
    stays = packed("scores", [scored(0.5, prefix="s")], first=20)
    path = home.put(*old, day, stays, name="old")
    home.run("--no_arize")
    home.put(*old, name="again")
    home.run("--no_arize", files=str(home.input / "again.avro"))  # these are there twice
    path.unlink()
    home.package = "halved"
    home.put(day, packed("scores", [scored(1.0, prefix="n")], first=30), name="more")
    before = tables_of(home)
    wanted = [(f"pub-{i}:{k}", score) for i in range(3) for k, score in ((0, 0.125), (1, 0.25))]
    wanted += [("pub-7:0", 0.25), ("pub-20:0", 0.5), ("pub-30:0", 0.5)]
    for _ in range(2):
        assert _main(words(home, "--no_arize")) == 0
        assert scores(home) == sorted(wanted)
    assert tables_of(home) == before
    home.package = "odd"  # and back again, though these files were loaded before
    assert _main(words(home, "--no_arize")) == 0
    assert dict(scores(home))["pub-0:1"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", ["after staged file", "after job", "before replacement", "after replacement"]
)
def test_a_killed_rewrite_leaves_old_rows_or_new_ones(home: InBigQuery, step: str) -> None:
    home.put(packed("scores", [scored(0.5, prefix=f"c{i}") for i in range(20)]))
    home.run("--no_arize")
    home.package = "halved"
    with ArizeReceiver("key", "space") as receiver:
        killed_at(step, *words(home, "--arize_url", receiver.url))
        assert {score for _, score in scores(home)} in ({0.5}, {0.25})
        assert _main(words(home, "--arize_url", receiver.url)) == 0
        got = [score for upload in receiver.uploads for score in upload.table["score"].to_pylist()]
    assert scores(home) == sorted((f"pub-{i}:0", 0.25) for i in range(20))
    # An entry of a statement that was never begun does not count, and is forgotten after a day.
    left = Outbox(home.folder).entries()
    with home.tables() as tables:
        assert tables.committed(NAME, left) == set()
    assert set(got) == {0.25}
    assert len(got) in (20, 40)


@pytest.mark.slow
def test_rows_that_wait_when_others_are_erased_do_not_come(
    home: InBigQuery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.put(packed("scores", [scored(0.5, prefix="a"), scored(0.5, prefix="b")]))
    home.run("--no_arize")
    erase = ["tables", "erase", *home.place(), "--extractors_package", home.package]
    erase += ["--model", "scores", "--where", "case_id = 'a-0'"]

    begin = replace._begin

    def erased_before(*arguments: object) -> object:
        assert _main(erase) == 0
        return begin(*arguments)

    monkeypatch.setattr(replace, "_begin", erased_before)
    assert _main(words(home, "--no_arize")) == 1
    monkeypatch.undo()
    assert [row["case_id"] for row in home.rows("scores")] == ["b-0"]
    home.package = "halved"
    assert _main(words(home, "--no_arize")) == 0
    assert scores(home) == [("pub-1:0", 0.25)]
    theirs = Table(f"{home.dataset}.scores_replacing_old", [SchemaField("row_id", "STRING")])
    home.google.client.create_table(theirs)  # as that of a model scores-replacing-old
    with home.tables() as tables:
        drop_waiting(tables.client, tables.table(NAME))
    assert {"scores", "scores_replacing_old"} <= set(tables_of(home))
