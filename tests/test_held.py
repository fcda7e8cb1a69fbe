"""The index of dead letters is a shortcut, and never the truth."""

from pathlib import Path

import pytest

from pipelines.held import INDEX, HeldMessages
from pipelines.identity import identity
from pipelines.store import Store
from weighbridge.archive import Message, encode_archive

MESSAGES = [Message(b"body", {"model_id": "scores"}, f"m{i}", 1) for i in range(4)]
IDENTITIES = [identity(message) for message in MESSAGES]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    for name, part in (("a", MESSAGES[:2]), ("b", MESSAGES[2:3])):
        store.write(f"failures/{name}.avro", encode_archive(part))
    return store


def held(store: Store) -> set[bytes]:
    return set(HeldMessages(store, "failures", identity).places)


def test_files_are_read_once(store: Store) -> None:
    assert held(store) == set(IDENTITIES[:3])
    before = (store.root / "failures" / INDEX).read_text()
    # Told from the index: another content is not looked at.
    store.write("failures/b.avro", encode_archive(MESSAGES[3:]))
    assert held(store) == set(IDENTITIES[:3])
    assert (store.root / "failures" / INDEX).read_text() == before


def test_what_is_added_is_held(store: Store) -> None:
    index = HeldMessages(store, "failures", identity)
    store.write("failures/c.avro", encode_archive(MESSAGES[3:]))
    index.add("c.avro", MESSAGES[3:])
    assert set(index.places) == held(store) == set(IDENTITIES)


def test_a_file_that_was_removed_is_held_no_more(store: Store) -> None:
    held(store)
    store.remove("failures/a.avro")
    assert held(store) == {IDENTITIES[2]}


@pytest.mark.parametrize("cut", [1, 10, 40, 70])
def test_an_index_that_was_cut_short_is_made_whole(store: Store, cut: int) -> None:
    held(store)
    path = store.root / "failures" / INDEX
    path.write_text(path.read_text()[:-cut])
    assert held(store) == set(IDENTITIES[:3])
    assert held(store) == set(IDENTITIES[:3])


def test_damage_is_no_end(store: Store) -> None:
    data = store.read("failures/a.avro")
    store.write("failures/c.avro", data[:-20])
    store.write("failures/d.avro", b"no archive")
    assert set(IDENTITIES[:3]) == held(store)
