"""A disk that takes no more: one message, and the next run adds what is missing, once."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import Home, packed, scored

from pipelines.cli import _main
from pipelines.room import NoRoomError, Want, want_of_room

AGAIN = "and run it again: it adds what is missing; nothing is lost, and no table holds a row twice"
ENVELOPES = 500


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, where there are rights to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(home: Home) -> None:
    """Input that makes a data file of some 200 kB."""
    bodies = [scored(0.5, prefix=os.urandom(200).hex()) for _ in range(ENVELOPES)]
    home.put(packed("scores", bodies))


@contextmanager
def limited(most: int) -> Iterator[None]:
    """This process may write files up to this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [pytest.param(0, marks=pytest.mark.slow), 60_000])
def test_a_full_disk_is_said_and_nothing_is_lost(
    disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], room: int
) -> None:
    home = Home(disk)
    home.input = tmp_path / "in"
    home.put(packed("scores", [scored(0.5)], first=10_000), name="first")
    home.run()
    fill(home)
    filler = disk / "filler"
    filler.write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize - room))
    capfd.readouterr()
    # Two workers, as those that do not share this process are the usual ones.
    assert _main(["run", *home.arguments("--no_arize", "--workers", "2")]) == 1
    [said] = capfd.readouterr().err.split("\n")[:-1]
    where = f"Error: the run failed: {home.folder} could not be written: the disk is full."
    assert said == f"{where} Free some space {AGAIN}"
    filler.unlink()
    assert home.run().rows in (0, ENVELOPES)
    assert home.row_ids("scores") == sorted(
        ["pub-10000:0", *(f"pub-{n}:0" for n in range(ENVELOPES))]
    )


@pytest.mark.parametrize("most", [3_000, 30_000, 100_000])
def test_a_limit_of_file_sizes_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], most: int
) -> None:
    home = Home(tmp_path)
    fill(home)
    with limited(most):
        assert _main(["run", *home.arguments("--no_arize", "--workers", "2")]) == 1
    [said] = filter(None, capfd.readouterr().err.split("\n"))
    assert "a file would be larger than this process may write. Raise that limit" in said
    assert home.run().rows == ENVELOPES


@pytest.mark.slow
def test_a_follower_says_so_and_tries_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path)
    fill(home)
    follow = home.arguments("--no_arize", "--follow", "--exit_when_idle", "1s")
    with limited(100_000), caplog.at_level(logging.ERROR):
        assert _main(["run", *follow]) == 1
    told = [record.getMessage() for record in caplog.records]
    assert told
    for line in told:
        assert line.startswith("batch failed, again in ")
        assert line.endswith("\na file would be larger than this process may write")
    assert _main(["run", *follow]) == 0
    assert len(home.row_ids("scores")) == ENVELOPES


def test_what_is_behind_an_error_is_found() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    wrapped = RuntimeError("while running a step")
    wrapped.__context__ = full
    assert want_of_room(wrapped) is want_of_room(full) is Want.SPACE
    for other in (OSError(errno.EACCES, "no"), ValueError("No space left on device"), None):
        assert want_of_room(other) is None
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (x)")
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as caught:
        database.execute("INSERT INTO t VALUES (randomblob(100000))")
    assert want_of_room(caught.value) is Want.SPACE
    error = pickle.loads(pickle.dumps(NoRoomError(Want.QUOTA, "here")))
    assert (error.want, str(error)) == (Want.QUOTA, str(NoRoomError(Want.QUOTA, "here")))
