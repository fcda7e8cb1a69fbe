"""Maintenance that is killed, or runs while others commit: rows once, and nothing pending lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyiceberg.table.snapshots import Operation
from support import NOW
from test_commit import NAME, held, new_tables, rows, write
from test_maintain import YESTERDAY, age, locations

from pipelines.commit import commit_files
from pipelines.maintain.sweep import sweep
from pipelines.maintain.upkeep import Memory, Upkeep, remember
from pipelines.outbox import Outbox
from pipelines.snapshots import Change, add_snapshot

CHILD = Path(__file__).with_name("maintain_child.py")
RETAINED = 30
STEPS = [
    f"{when} {what}"
    for what in (
        "data file",
        "manifest",
        "manifest list",
        "metadata",
        "catalog",
        "old metadata",
        "removal",
        "memory",
    )
    for when in ("before", "after")
]
QUICK = {"after data file", "before catalog", "after catalog", "after removal"}


def pending_rows(outbox: Outbox) -> Counter[str]:
    """Row ids of what waits for Arize, read as the push does."""
    return Counter(
        id_
        for entry in outbox.entries()
        for ref in outbox.read(entry)[1]
        for id_ in pq.read_table(ref.path, partitioning=None)["row_id"].to_pylist()
    )


def start(home: Path, step: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(home), NAME, str(RETAINED), step],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "step", [pytest.param(s, marks=[] if s in QUICK else pytest.mark.slow) for s in STEPS]
)
def test_killed_maintenance_is_made_whole_by_the_next(tmp_path: Path, step: str) -> None:
    tables, outbox = new_tables(tmp_path), Outbox(tmp_path)
    asked = [write(tables, rows([f"e{n}", f"e{n + 1}"], at=YESTERDAY)) for n in range(5)]
    asked.append(write(tables, rows(["old"], at=NOW - timedelta(days=RETAINED + 5))))
    for files in asked:
        commit_files(tables, NAME, files, outbox)
    [twice] = write(new_tables(tmp_path / "elsewhere"), rows(["e2", "x"], at=YESTERDAY))
    add_snapshot(tables.load(NAME), Change(Operation.APPEND, [f"file://{twice.path}"]))
    [orphan] = write(tables, rows(["never"], at=YESTERDAY))
    age(tables)
    marks = dict.fromkeys(sweep(tables, NAME, {}).marks, time.time() - 1e5)
    remember(tables, NAME, Memory(marks=marks))
    wanted = sorted([*(f"e{n}:{i}" for n in range(6) for i in (0, 1)), "x:0", "x:1"])
    waiting = pending_rows(outbox)

    child = start(tmp_path, step)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    # Killed anywhere, the table can be read and written, and what is pending is there.
    assert set(held(tables)) - {"old:0", "old:1"} == set(wanted)
    assert pending_rows(outbox) == waiting
    commit_files(tables, NAME, write(tables, rows(["after"], at=YESTERDAY)), outbox)

    upkeep = Upkeep(tables, {NAME: timedelta(days=RETAINED)})
    upkeep.run(NAME)
    wanted = sorted([*wanted, "after:0", "after:1"])
    assert held(tables) == wanted
    assert len(locations(tables)) == 1
    assert not Path(orphan.path).exists()
    for files in asked[:-1]:
        assert commit_files(tables, NAME, files, outbox).files == ()
    assert held(tables) == wanted
    assert pending_rows(outbox) == waiting + Counter(["after:0", "after:1"])


@pytest.mark.slow
def test_commits_beside_maintenance_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    tables, outbox = new_tables(tmp_path), Outbox(tmp_path)
    commit_files(tables, NAME, write(tables, rows(["e0"], at=YESTERDAY)), outbox)
    children = [start(tmp_path, "for ever") for _ in range(2)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "done\n"
        for number in range(60):
            ids = [f"e{number}", f"e{number + 1}"]
            commit_files(tables, NAME, write(tables, rows(ids, at=YESTERDAY)), outbox)
    finally:
        for child in children:
            child.kill()
            child.communicate()
    wanted = sorted(f"e{n}:{i}" for n in range(61) for i in (0, 1))
    assert held(tables) == wanted
    assert pending_rows(outbox) == Counter(wanted)
    assert Upkeep(tables, {}).run(NAME).files == 1
    assert held(tables) == wanted
