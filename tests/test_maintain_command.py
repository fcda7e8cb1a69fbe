"""Maintenance as users meet it: the command, at the end of runs, and beside a follower."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import pytest
from forked import call
from support import NOW, Home, packed, plain, scored, write_package
from test_commit import NAME, held, new_tables
from test_maintain import YESTERDAY, commit, locations

from extractors import load_extractors
from pipelines.display import Display
from pipelines.main import run
from pipelines.maintain import keeper as keeping
from pipelines.maintain.keeper import Keeper, KeeperThread, keeper_of
from pipelines.maintain.retain import retentions
from pipelines.maintain.upkeep import Upkeep, recall
from pipelines.snapshots import forget_snapshots
from pipelines.store import Store
from pipelines.tables import Tables

NOBODY = MappingProxyType({})


class Said(Display):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def spread(home: Home, count: int = 4) -> None:
    """Runs of a file each, all of yesterday, and one of two months ago."""
    moments = [YESTERDAY + timedelta(seconds=i) for i in range(count)]
    for number, at in enumerate([*moments, NOW - timedelta(days=60)]):
        path = home.put(packed("scores", [scored(0.5)], first=number, at=at), name=f"f{number}")
        home.run(files=str(path))


def test_the_command_compacts_drops_and_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    spread(home)
    before = home.row_ids("scores")
    place = ("--home", str(home.folder), "--extractors_package", home.package)
    status, out, err = call("tables", "maintain", *place, "--retain", "30d", "--dry_run")
    assert status == 0, err
    assert "nothing was changed" in out
    assert home.row_ids("scores") == before
    status, out, err = call("tables", *place, "maintain", "--retain", "30d", "--model", "scores")
    assert (status, err) == (0, "")
    [line] = [line.split() for line in out.splitlines() if "models.scores " in line]
    assert line[:4] == ["models.scores", "5", "->", "1"]
    assert line[-3:] == ["0", "1", "0"]
    assert "weighbridge.skipped" not in out
    assert home.row_ids("scores") == before[:-1]
    # Run again: what is known is known.
    report = home.run(files=str(home.input / "f[0-3].avro"))
    assert report.rows == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--home=nowhere"], "holds no tables yet"),
        (["--home=.", "--retain=1h"], "give at least 1d"),
        (["--home=.", "--retain=always"], "write 30s, 5m, 2h or 1d"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    status, out, err = call("tables", "maintain", *arguments, cwd=tmp_path)
    assert (status, out) == (2, "")
    assert said in " ".join(err.split())


def test_a_table_that_cannot_be_maintained_holds_up_no_other(tmp_path: Path) -> None:
    home = Home(tmp_path)
    spread(home, 2)
    tables = Tables(home.folder)
    for path in locations_of(tables, "models.scores"):
        path.write_bytes(b"damaged")
    place = ("--home", str(home.folder), "--extractors_package", home.package)
    status, out, err = call("tables", "maintain", *place)
    assert status == 1
    assert "models.scores: maintenance failed with" in err
    assert "weighbridge.skipped" in out
    assert "Traceback" not in err


def locations_of(tables: Tables, name: str) -> list[Path]:
    table = tables.load(name)
    return [
        Path(path.removeprefix("file://"))
        for path in table.inspect.files()["file_path"].to_pylist()
    ]


def test_the_same_input_after_compaction_and_expiry_adds_nothing(
    tmp_path: Path,
) -> None:
    """One prediction id in two envelopes and a label that was corrected: all of them stay."""
    home = Home(tmp_path)
    labels = ("yes", "no")
    for number, label in enumerate(labels):
        at = YESTERDAY + timedelta(seconds=number)
        actual = {"actual": {"cases": [{"id": "c-0", "label": label}]}}
        messages = [
            packed("scores", [scored(0.5 + number / 10)], first=number, at=at),
            plain("scores", actual, message_id=f"t{number}", at=at),
        ]
        home.run(files=str(home.put(*messages, name=f"f{number}")))
    tables = Tables(home.folder)
    wanted = {name: home.rows(name) for name in ("scores", "scores_actuals")}
    assert [row["prediction_id"] for row in wanted["scores"]] == ["c-0", "c-0"]
    assert [row["label"] for row in wanted["scores_actuals"]] == ["yes", "no"]
    for name in wanted:
        done = Upkeep(tables, {}).run(f"models.{name}")
        assert (done.files_before, done.files, done.duplicates) == (2, 1, 0)
        forget_snapshots(tables.load(f"models.{name}"), keep=1)
    for files in (str(home.input / "f1.avro"), str(home.input / "*.avro")):
        assert home.run(files=files).rows == 0
    assert {name: home.rows(name) for name in wanted} == wanted


def test_settings_of_a_model_say_how_long_its_rows_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = (
        "from datetime import timedelta\n"
        "from extractors import ModelSettings, Row, extractor\n\n\n"
        "class Number(Row):\n    number: int\n\n\n"
        '@extractor("brief", row=Number, model_type="untyped", table_version=2,\n'
        "    settings=ModelSettings(retention=timedelta(days=7)))\n"
        "def extract(envelope):\n    yield envelope.request\n"
    )
    write_package(tmp_path, "kept_briefly", brief=module)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = retentions(load_extractors("kept_briefly"))
    assert found == dict.fromkeys(("models.brief", "models.brief_v2"), timedelta(days=7))


@pytest.mark.slow
def test_a_run_compacts_what_has_become_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    spread(home)
    monkeypatch.setattr(keeping, "MORE_FILES", 5)
    path = home.put(packed("scores", [scored(0.5)], first=9, at=YESTERDAY), name="last")
    said = Said()
    run(home.arguments("--no_arize", files=str(path)), said)
    assert said.lines == ["compacted models.scores: 6 files -> 2"]
    assert len(home.rows("scores")) == 6
    # Until as many have come again.
    said = Said()
    run(home.arguments("--no_arize", files=str(path)), said)
    assert said.lines == []


def test_a_follower_looks_after_tables_daily_and_stops_when_told(tmp_path: Path) -> None:
    tables = new_tables(tmp_path)
    for number in range(4):
        commit(tables, [f"e{number}"])
    keeper = keeper_of(tables, NOBODY)
    assert keeper is not None
    assert keeper.look_after(lambda _: False, daily=False) == []
    took: list[float] = []

    def stop(seconds: float) -> bool:
        took.append(seconds)
        return True

    assert keeper.look_after(stop, daily=True) == []
    assert len(took) == 1
    with Store(tables.home).locked(f"upkeep/{NAME}"):
        others = [item.table for item in keeper.look_after(lambda _: False, daily=True)]
        assert others and NAME not in others
    done = {item.table: item.files for item in keeper.look_after(lambda _: False, daily=True)}
    assert done[NAME] == 1
    assert recall(tables, NAME).files == 1
    assert keeper.look_after(lambda _: False, daily=True) == []
    assert len(held(tables)) == 8


def test_a_thread_does_so_beside_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(keeping, "MORE_FILES", 2)
    tables = new_tables(tmp_path)
    thread = KeeperThread(Keeper(Tables(tmp_path), NOBODY))
    count = 0
    while count < 10 or (count < 200 and len(locations(tables)) == count):
        commit(tables, [f"e{count}"])
        count += 1
    thread.finish()
    assert recall(tables, NAME).at > 0
    assert len(locations(tables)) < count
    assert held(tables) == sorted(f"e{n}:{i}" for n in range(count) for i in (0, 1))
