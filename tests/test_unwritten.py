"""Commits that a table refuses for good: kept, repaired, and committed at the next start, once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from streams import START, Subscription, ids, minute, one
from support import Home, plain
from test_commit import NAME, held, new_tables, rows, write

from extractors import load_extractors
from pipelines.commit import commit_files, read_ring, token_of
from pipelines.committer import CommitFiles
from pipelines.outbox import Outbox
from pipelines.store import Store
from pipelines.tables import Tables
from pipelines.unwritten import commit_or_keep, commit_unwritten


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return new_tables(tmp_path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def drop_column(tables: Tables, name: str = NAME, column: str = "label") -> None:
    with tables.load(name).update_schema() as update:
        update.delete_column(column)


def drop_table(tables: Tables, name: str = NAME) -> None:
    tables.catalog.drop_table(name)


def remove_files(tables: Tables, name: str = NAME) -> None:
    for path in tables.store.root.glob(f"{name.replace('.', '/')}/data/**/*.parquet"):
        path.unlink()


def kept(home: Path) -> list[str]:
    return Store(home).names("unwritten", ".json")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (drop_column, "ValueError"),
        (drop_table, "NoSuchTableError"),
        (remove_files, "FileNotFoundError"),
    ],
)
def test_a_refused_commit_leaves_its_list_and_a_line_without_rows(
    tables: Tables,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Tables], None],
    reason: str,
) -> None:
    files = write(tables, rows(["secret"]))
    damage(tables)
    assert commit_or_keep(tables, NAME, files, Outbox(None)) is None
    assert commit_or_keep(tables, NAME, files, Outbox(None)) is None
    [name] = kept(tmp_path)
    assert name == f"unwritten/{NAME}/{token_of(files)}.json"
    assert json.loads(Store(tmp_path).read(name)) == {
        "table": NAME,
        "reason": reason,
        "files": [ref.to_json() for ref in files],
    }
    for record in caplog.records:
        assert record.levelno == logging.ERROR
        text = f"{NAME} refused a commit ({reason}); its files are listed in {name}"
        assert record.getMessage() == text
    assert len(caplog.records) == 2


def test_a_bounded_run_raises_instead(tables: Tables, tmp_path: Path) -> None:
    files = write(tables, rows(["a"]))
    drop_table(tables)
    commit = CommitFiles(Tables(tmp_path), {})._fn
    with pytest.raises(NoSuchTableError):
        list(commit.process((NAME, [ref.to_json() for ref in files])))
    assert kept(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(28, "disk full"), CommitFailedException("a conflict")])
def test_what_may_pass_is_tried_again(tables: Tables, tmp_path: Path, error: Exception) -> None:
    class Full(Outbox):
        def put(self, commit: object) -> None:
            raise error

    with pytest.raises(type(error)):
        commit_or_keep(tables, NAME, write(tables, rows(["a"])), Full(None))
    assert kept(tmp_path) == []


def test_a_repaired_table_gets_its_rows_once(tables: Tables, tmp_path: Path) -> None:
    commit_files(tables, NAME, write(tables, rows(["a"])), Outbox(None))
    refused = [write(tables, rows([id_])) for id_ in ("b", "c")]
    drop_column(tables)
    for files in refused:
        assert commit_or_keep(tables, NAME, files, Outbox(None)) is None
    lines = commit_unwritten(tables, {})
    assert [line.partition(":")[0] for line in lines] == [
        f"{NAME} still refuses 2 rows (ValueError)"
    ] * 2
    assert len(kept(tmp_path)) == 2
    new_tables(tmp_path)  # a launcher adds the column again
    outbox = Outbox(tmp_path)
    assert (
        commit_unwritten(tables, {NAME: outbox})
        == [f"committed 2 of 2 rows that {NAME} had refused"] * 2
    )
    assert kept(tmp_path) == []
    assert commit_unwritten(tables, {NAME: outbox}) == []
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1", "c:0", "c:1"]
    assert outbox.entries() == set(read_ring(tables.load(NAME))[1:])


def test_a_table_that_was_dropped_is_filled_once(tables: Tables, tmp_path: Path) -> None:
    """Its files were checked against snapshots that the new table does not have."""
    for id_ in ("x", "y", "z"):
        commit_files(tables, NAME, write(tables, rows([id_])), Outbox(None))
    refused = [write(tables, rows(ids)) for ids in (["a", "b"], ["b", "c"])]
    assert {ref.checked for files in refused for ref in files} == {3}
    drop_table(tables)
    for files in refused:
        assert commit_or_keep(tables, NAME, files, Outbox(None)) is None
    tables = new_tables(tmp_path)
    assert sorted(commit_unwritten(tables, {})) == [
        f"committed {n} of 4 rows that {NAME} had refused" for n in (2, 4)
    ]
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1", "c:0", "c:1"]


def test_a_list_that_was_committed_meanwhile_adds_nothing(tables: Tables, tmp_path: Path) -> None:
    """A retry of the bundle found the table repaired; or a start was killed before the removal."""
    files = write(tables, rows(["a"]))
    drop_column(tables)
    assert commit_or_keep(tables, NAME, files, Outbox(None)) is None
    tables = new_tables(tmp_path)
    assert commit_or_keep(tables, NAME, files, Outbox(None)) is not None
    snapshot = tables.load(NAME).current_snapshot()
    assert commit_unwritten(tables, {}) == [f"committed 0 of 2 rows that {NAME} had refused"]
    assert tables.load(NAME).current_snapshot() == snapshot
    assert kept(tmp_path) == []


def without_country(tables: Tables) -> None:
    drop_column(tables, "models.scores", "country")


def without_table(tables: Tables) -> None:
    drop_table(tables, "models.scores")


@pytest.mark.parametrize("damage", [without_country, without_table])
def test_a_stream_goes_on_beside_a_table_that_refuses(
    home: Home, damage: Callable[[Tables], None]
) -> None:
    truth = {"actual": {"cases": [{"id": "c1-0", "label": "no"}]}}
    actual = plain("scores", truth, message_id="t", at=START)
    Subscription().deliver(one(0)).follow(home)
    subscription = Subscription().deliver(one(1), actual).wait(past=minute(2))
    counted = subscription.deliver(one(1), one(2)).follow(home, damage=damage)
    assert len(kept(home.folder)) == 2
    assert counted["scores"]["commits_refused"] == 1  # this runner counts a step's first bundle
    assert home.row_ids("scores_actuals") == ["t:0"]

    tables = Tables(home.folder)
    tables.prepare(load_extractors(home.package).values())
    commit_unwritten(tables, {})
    assert kept(home.folder) == []
    Subscription().deliver(one(1), one(2), one(3)).follow(home)
    gone = [] if damage is without_country else [0]
    assert home.row_ids("scores") == ids({0, 1, 2, 3}.difference(gone))
