"""Rows that are erased: gone from tables, disk and outbox, and not brought back by old input."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from forked import call
from support import NOW, Home, packed, plain, scored
from test_commit import NAME, held, new_tables, rows, write
from test_maintain import YESTERDAY, commit, locations

from extractors import Extractor, load_extractors
from pipelines.cli import _main
from pipelines.commit import commit_files
from pipelines.erase import rows as erasing
from pipelines.erase.find import find_rows
from pipelines.erase.rows import erase_rows
from pipelines.erased import ErasedRows, note_erased
from pipelines.maintain.upkeep import Upkeep
from pipelines.outbox import Commit, Outbox
from pipelines.rewrite import replace_rows
from pipelines.tables import Tables

SECRET = "person-4711"


def someone(tables: Tables, ids: list[str]) -> pa.Table:
    """Rows as `find_rows` gives them."""
    found = tables.load(NAME).scan().to_arrow()
    found = found.filter(pc.is_in(found["envelope_id"], value_set=pa.array(ids)))
    return found.append_column("ingest_time", found["event_time"]).append_column(
        "model_version", found["row_id"]
    )


@pytest.fixture
def extractor() -> Extractor:
    return load_extractors("odd")["scores", "prediction"]


def fill(home: Home, *more: str) -> None:
    """Two envelopes in a file, one alone, and actuals; of a person are two cases and an actual."""
    first = scored(0.5, 0.7)
    first["request"]["cases"][1]["id"] = SECRET
    alone = scored(0.9)
    alone["request"]["cases"][0]["id"] = SECRET
    other = scored(0.1, prefix="o")
    home.put(packed("scores", [first, other], at=YESTERDAY), name="f0")
    later = YESTERDAY + timedelta(seconds=5)
    home.put(packed("scores", [alone], first=7, at=later), name="f1")
    actuals = [
        plain("scores", {"actual": {"cases": [{"id": id_, "label": "yes"}]}}, message_id=f"t-{i}")
        for i, id_ in enumerate(("o-0", SECRET))
    ]
    home.put(*actuals, name="f2")
    for number in range(3):
        home.run(*more, files=str(home.input / f"f{number}.avro"))


def holding(folder: Path) -> list[Path]:
    """Files below a folder in which the person is named, manifests among them."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (SECRET.encode() in path.read_bytes() or SECRET in _text(path))
    ]


def _text(path: Path) -> str:
    if path.suffix == ".parquet":
        return str(pq.read_table(path, partitioning=None).to_pylist())
    if path.suffix == ".avro":
        with open(path, "rb") as stream:
            return str(list(fastavro.reader(stream)))
    return ""


def test_a_person_is_gone_from_tables_and_disk(tmp_path: Path) -> None:
    home = Home(tmp_path)
    fill(home)
    assert len(holding(home.folder / "tables")) > 4  # manifests have the bounds of columns
    place = ("--home", str(home.folder), "--extractors_package", home.package)
    asked = ("--model", "scores", "--where", f"case_id = '{SECRET}'")
    before = home.row_ids("scores"), home.row_ids("scores_actuals")
    status, out, err = call("tables", "erase", *place, *asked, "--dry_run")
    assert (status, err) == (0, "")
    assert (home.row_ids("scores"), home.row_ids("scores_actuals")) == before
    status, out, err = call("tables", *place, "erase", *place, *asked)
    assert (status, err) == (0, ""), out
    lines = [line.split() for line in out.splitlines()]
    assert ["models.scores", "2", "0", "2"] in [line[:4] for line in lines]
    assert ["models.scores_actuals", "1", "0", "1"] in [line[:4] for line in lines]
    assert SECRET not in out
    assert [row["case_id"] for row in home.rows("scores")] == ["c-0", "o-0"]
    assert [row["case_id"] for row in home.rows("scores_actuals")] == ["o-0"]
    assert holding(home.folder) == []
    left = Tables(home.folder).load("models.scores")
    assert len(left.metadata.snapshots) == 1
    assert {row["reason"] for row in home.rows("skipped", "weighbridge")} == {"erased"}


@pytest.mark.slow
def test_old_input_does_not_bring_it_back(tmp_path: Path) -> None:
    home = Home(tmp_path)
    fill(home)
    place = ("--home", str(home.folder), "--extractors_package", home.package)
    call("tables", "erase", *place, "--model", "scores", "--where", f"case_id = '{SECRET}'")
    wanted = home.rows("scores"), home.rows("scores_actuals")
    report = home.run()
    assert report.rows == 0
    assert sum(table.known for table in report.tables) == 5
    assert (home.rows("scores"), home.rows("scores_actuals")) == wanted
    arguments = ("--archive", str(home.input), "--model", "scores", "--rewrite", "--no_arize")
    status, _, err = call("replay", *arguments, *place)
    assert status == 0, err
    assert (home.rows("scores"), home.rows("scores_actuals")) == wanted
    assert holding(home.folder) == []


@pytest.mark.slow
def test_what_waits_for_arize_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARIZE_API_KEY", "key")
    monkeypatch.setenv("ARIZE_SPACE_ID", "space")
    monkeypatch.setattr("pipelines.arize.ATTEMPTS", 1)
    home = Home(tmp_path)
    fill(home, "--arize_url", "http://127.0.0.1:9")
    outbox = Outbox(home.folder)
    assert len(outbox.entries()) == 3
    place = ("--home", str(home.folder), "--extractors_package", home.package)
    asked = ("--model", "scores", "--where", f"case_id = '{SECRET}'")
    status, out, err = call("tables", "erase", *place, *asked)
    assert (status, err) == (0, ""), out
    left = [ref for entry in outbox.entries() for ref in outbox.read(entry)[1]]
    assert sorted(ref.rows for ref in left) == [1, 2]
    assert all(SECRET not in str(pq.read_table(ref.path, partitioning=None)) for ref in left)
    assert holding(home.folder) == []


@pytest.mark.parametrize("commit_list", [commit_files, replace_rows])
def test_a_file_that_was_written_before_is_committed_without_the_rows(
    tmp_path: Path, extractor: Extractor, commit_list: Callable[..., Commit]
) -> None:
    tables = new_tables(tmp_path)
    files = write(tables, rows(["a", "b"]))
    twin = write(new_tables(tmp_path / "elsewhere"), rows(["a", "c"]))
    commit_files(tables, NAME, files, Outbox(None))
    erase_rows(tables, NAME, extractor, someone(tables, ["a"]))
    assert held(tables) == ["b:0", "b:1"]
    for _ in range(2):
        commit_list(tables, NAME, twin, Outbox(None))
        assert held(tables) == ["b:0", "b:1", "c:0", "c:1"]


def test_compacted_files_and_those_of_older_snapshots_go_too(
    tmp_path: Path, extractor: Extractor
) -> None:
    tables = new_tables(tmp_path)
    for number in range(4):
        commit(tables, [f"e{number}"])
    Upkeep(tables, {}).run(NAME)
    done = erase_rows(tables, NAME, extractor, someone(tables, ["e1"]))
    assert (done.rows, done.files, done.left) == (2, 1, 0)
    assert held(tables) == ["e0:0", "e0:1", "e2:0", "e2:1", "e3:0", "e3:1"]
    on_disk = {
        f"file://{path.resolve()}" for path in (tmp_path / "tables/models").rglob("*.parquet")
    }
    assert on_disk == locations(tables)


def test_a_young_file_that_nobody_has_committed_is_left_and_told(
    tmp_path: Path, extractor: Extractor
) -> None:
    tables = new_tables(tmp_path)
    commit(tables, ["a"])
    [orphan] = write(tables, rows(["a", "b"], at=NOW))
    note_erased(tables.store, NAME, rows(["b"], at=NOW))
    done = erase_rows(tables, NAME, extractor, someone(tables, ["a"]))
    assert (done.left, held(tables)) == (1, [])
    old = time.time() - erasing.ORPHAN_SECONDS - 1
    os.utime(orphan.path, (old, old))
    done = erase_rows(tables, NAME, extractor, someone(tables, ["a"]))
    assert (done.rows, done.left, Path(orphan.path).exists()) == (0, 0, False)


def test_an_erased_row_is_known_by_its_id_and_time(tmp_path: Path) -> None:
    store = new_tables(tmp_path).store
    table = rows(["a", "b"], at=NOW)
    note_erased(store, NAME, table.slice(1, 1))
    erased = ErasedRows.of(store, NAME)
    assert erased.among(table).to_pylist() == [False, True, False, False]
    later = rows(["a"], at=NOW + timedelta(microseconds=1))
    assert erased.among(later).to_pylist() == [False, False]
    assert not ErasedRows.of(store, "models.other").keys
    for path in (tmp_path / "tables/erased").rglob("*.rows"):
        assert b"a:1" not in path.read_bytes()


def test_files_that_have_records_before_the_time_are_read_right(tmp_path: Path) -> None:
    store = new_tables(tmp_path).store
    table = rows(["a", "b"], at=NOW)
    note_erased(store, NAME, table.slice(1, 1))
    pairs = pa.array([{"x": "1", "y": "2"}] * table.num_rows)
    pq.write_table(table.add_column(0, "pair", pairs), tmp_path / "nested.parquet")
    with pq.ParquetFile(tmp_path / "nested.parquet") as file:
        left = ErasedRows.of(store, NAME).left_of(file)
    assert left["row_id"].to_pylist() == ["a:0", "b:0", "b:1"]


def test_a_wrong_expression_is_said_without_its_values(tmp_path: Path) -> None:
    home = Home(tmp_path)
    fill(home)
    place = ("--home", str(home.folder), "--extractors_package", home.package)
    for model, where, said in [
        ("scores", f"case = '{SECRET}'", "no table of scores has all of"),
        ("scores", f"case_id is '{SECRET}'", "not understood at character"),
        ("scores", f"amount = '{SECRET}'", "not of its column's type"),
        ("scores", "case_id = 3", "not of its column's type"),
        ("nobody", "case_id = 'a'", "--model nobody: not registered"),
    ]:
        status, out, err = call("tables", "erase", *place, "--model", model, "--where", where)
        assert (status, out) == (2, "")
        assert said in " ".join(err.split())
        assert SECRET not in err


@pytest.mark.slow
def test_killed_between_tables_it_finds_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    fill(home)
    own = ["--home", str(home.folder), "--extractors_package", home.package]
    # Only predictions have the column: without theirs nobody would know whose actuals are meant.
    command = ["tables", "erase", *own, "--model", "scores", "--where", "amount >= 0 and score < 1"]
    done: list[str] = []

    def dies(tables: Tables, name: str, *more: object) -> object:
        if done:
            raise KeyboardInterrupt
        done.append(name)
        return erase_rows(tables, name, *more)

    monkeypatch.setattr(erasing, "erase_rows", dies)
    assert _main(command) == 130
    assert done == ["models.scores_actuals"]
    monkeypatch.undo()
    assert _main(command) == 0
    assert (home.rows("scores"), home.rows("scores_actuals")) == ([], [])


def test_only_the_model_that_is_named_is_looked_at(tmp_path: Path) -> None:
    home = Home(tmp_path)
    fill(home)
    found = find_rows(Tables(home.folder), load_extractors("odd"), "scores", f"case_id='{SECRET}'")
    assert {name: table.num_rows for name, (_, table) in found.items()} == {
        "models.scores": 2,
        "models.scores_actuals": 1,
    }
