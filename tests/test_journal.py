"""What a follower remembers, and what it may forget."""

import time
from pathlib import Path

import pytest

from pipelines.batches import InputFile, input_file
from pipelines.journal import Journal
from pipelines.retention import prune
from pipelines.watch import WatchedFiles
from weighbridge.archive import Message, write_archive

HOUR = 3600 * 10**9


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "follow.db")


def file(name: str, *, bytes: int = 1, written: int = 1) -> InputFile:
    return InputFile(name, bytes, written, written)


def test_a_file_belongs_to_one_batch_for_good(journal: Journal, tmp_path: Path) -> None:
    journal.add([file("b"), file("a"), file("c")])
    assert journal.waiting() == [file("a"), file("b"), file("c")]
    first = journal.begin(journal.waiting()[:2])
    assert journal.waiting() == [file("c")]
    again = Journal(tmp_path / "follow.db")  # as after a kill
    assert again.in_hand() == [first]
    again.done(first)
    assert again.in_hand() == []
    assert again.waiting() == [file("c")]


def test_a_file_that_was_replaced_waits_again(journal: Journal) -> None:
    journal.add([file("a"), file("b")])
    journal.done(journal.begin(journal.waiting()))
    replaced = file("a", bytes=2)
    journal.add([file("b"), replaced])
    assert journal.waiting() == [replaced]
    assert journal.files() == {"a": replaced, "b": file("b")}


def test_watched_files_are_recorded_once_and_forgotten_when_they_are_gone(
    journal: Journal, tmp_path: Path
) -> None:
    one, two = (tmp_path / "in" / f"{name}.avro" for name in ("one", "two"))
    write_archive(one, [Message(b"x", {})])
    write_archive(one.with_name(".hidden.avro"), [Message(b"x", {})])
    watched = WatchedFiles(str(one.parent), journal)
    assert watched.fetch(0) == 1
    assert watched.fetch(0) == 0
    write_archive(two, [Message(b"x", {})])
    assert WatchedFiles(str(one.parent), journal).fetch(0) == 1  # after a restart
    assert watched.fetch(0) == 1
    assert [f.path for f in journal.waiting()] == [str(one), str(two)]
    journal.done(journal.begin(journal.waiting()))
    write_archive(two, [Message(b"another", {})])
    assert watched.fetch(0) == 1
    assert [f.path for f in journal.waiting()] == [str(two)]
    one.unlink()
    two.unlink()
    assert watched.fetch(0) == 0
    assert list(journal.files()) == [str(two)]  # it was not run yet


def test_batch_ids_are_remembered_with_their_file(journal: Journal) -> None:
    journal.add([file("a")], ["x", "y"])
    ids = [str(i) for i in range(1200)]
    assert journal.seen(["y", "z", *ids]) == {"y"}
    journal.add([file("b")], ids)
    assert journal.seen([*ids, "x", "new"]) == {*ids, "x"}


def test_a_batch_that_fails_comes_apart_into_its_files(journal: Journal) -> None:
    journal.add([file("a"), file("b"), file("c")])
    batch = journal.begin(journal.waiting())
    before = time.time()
    journal.failed(batch, wait=5)
    parts = journal.in_hand()
    assert [part.files for part in parts] == [[file("a")], [file("b")], [file("c")]]
    assert {part.failures for part in parts} == {1}
    assert all(before + 5 <= part.retry_at <= time.time() + 5 for part in parts)
    journal.done(parts[0])
    journal.failed(parts[1], wait=10)
    assert [(part.files, part.failures) for part in journal.in_hand()] == [
        ([file("b")], 2),
        ([file("c")], 1),
    ]


def test_the_oldest_go_first_and_what_is_not_done_never(journal: Journal, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "archive", tmp_path / "theirs"
    now = time.time_ns()

    def put(path: Path, hours: int) -> InputFile:
        write_archive(path, [Message(b"x" * 100, {})])
        stored = input_file(str(path))._replace(written=now - hours * HOUR)
        journal.add([stored])
        return stored

    days = [put(folder / f"day=2026-01-0{i}" / f"{i}.avro", hours=10 - i) for i in range(1, 6)]
    theirs = put(elsewhere / "old.avro", hours=99)
    size = days[0].bytes
    journal.done(journal.begin([*days[1:], theirs]))
    in_hand = journal.begin(days[:1])

    assert prune(journal, folder, max_age=100 * 3600, max_bytes=100 * size) == 0
    assert prune(journal, folder, max_age=7.5 * 3600, max_bytes=100 * size) == 1
    assert not (folder / "day=2026-01-02").exists()
    assert prune(journal, folder, max_age=100 * 3600, max_bytes=3 * size) == 1
    assert [Path(f.path).name for f in journal.oldest_done(folder)] == ["4.avro", "5.avro"]
    assert prune(journal, folder, max_age=0, max_bytes=0) == 2
    assert Path(in_hand.files[0].path).exists()
    assert Path(theirs.path).exists()
    assert journal.in_hand() == [in_hand]
