"""Dead letters and parked messages as files: each once, in files of bounded size."""

from pathlib import Path

import apache_beam as beam
import pytest
from fuzz.checks import Keep
from support import NOW, micros, stored

from pipelines import failures
from pipelines.failures import WriteMessages, identity
from weighbridge.archive import Message, UnreadableArchive


def message(number: int, fingerprint: str = "f", size: int = 10, days: int = 0) -> Message:
    at = micros(NOW) - days * 86_400_000_000
    return Message(bytes(size), {"failure_fingerprint": fingerprint}, f"m{number:04}", at)


def write(home: Path, *messages: Message) -> None:
    with beam.Pipeline() as pipeline:
        pipeline | beam.Create(messages) | WriteMessages(home, "failures", Keep())


def ids(home: Path) -> list[str]:
    return sorted(message.message_id for message in stored(home / "failures"))


def test_each_message_is_written_once_however_often_and_with_whatever_others(
    tmp_path: Path,
) -> None:
    one, two, three = (message(n) for n in range(3))
    write(tmp_path, one, two, two)
    files = sorted(tmp_path.rglob("*.avro"))
    write(tmp_path, two, one)
    assert sorted(tmp_path.rglob("*.avro")) == files
    write(tmp_path, three, one)
    assert ids(tmp_path) == ["m0000", "m0001", "m0002"]


def test_another_cause_is_another_letter(tmp_path: Path) -> None:
    write(tmp_path, message(1, "a"), message(1, "b"))
    assert ids(tmp_path) == ["m0001", "m0001"]
    assert identity(message(1, "a")) != identity(message(1, "b"))


def test_files_lie_by_publish_day_and_stay_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "MAX_FILE_BYTES", 2500)
    write(tmp_path, *(message(n, size=1000, days=n % 2) for n in range(40)))
    assert len(ids(tmp_path)) == 40
    folders = {path.parent.name for path in tmp_path.rglob("*.avro")}
    assert len(folders) == 2
    assert all(folder.startswith("day=") for folder in folders)
    for path in tmp_path.rglob("*.avro"):
        assert sum(len(m.data) for m in stored(path.parent)) >= 1000
        assert path.stat().st_size < 5000


def test_what_a_damaged_file_has_lost_is_written_again(tmp_path: Path) -> None:
    write(tmp_path, message(1))
    [damaged] = tmp_path.rglob("*.avro")
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(UnreadableArchive):
        ids(tmp_path)
    write(tmp_path, message(1), message(2))
    damaged.unlink(missing_ok=True)
    # The same content has the same name: the damaged file itself was made whole, or another has it.
    assert "m0002" in ids(tmp_path)
    write(tmp_path, message(1))
    assert ids(tmp_path) == ["m0001", "m0002"]
