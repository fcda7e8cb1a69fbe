"""Which archive files a pattern names, here and on an object store."""

from __future__ import annotations

import io
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Home, packed, scored, stored

from pipelines.address import folder_of
from pipelines.listing import _parted, list_files, match_files
from pipelines.options import parse_run
from pipelines.store import Store
from schemas import ConfigurationError

FOLDERS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=2)
NAMES = st.builds(lambda f, n: [*f, n], FOLDERS, st.sampled_from(["a", "b", "b.avro", "a.avro"]))
PARTS = st.sampled_from(["*", "**", "?", "a*", "[ab]", "[!a]*", "*.avro", "a.avro", "b", "?*.avro"])
CASES = [scored(0.5, prefix=name) for name in "xyz"]


@given(names=st.lists(NAMES, max_size=8), parts=st.lists(PARTS, min_size=1, max_size=3))
def test_a_pattern_means_the_same_on_an_object_store(
    tmp_path_factory: pytest.TempPathFactory, names: list[list[str]], parts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("names")
    for name in names:
        path = folder.joinpath(*name)
        if not path.exists() and not any(above.is_file() for above in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    pattern = "/".join(parts)
    if not parts[-1].endswith("o") and ("**" in parts or set(parts) == {"b"}):
        pattern += "/*.avro"  # else it may mean folders, which object stores do not have
    here = {Path(file.path).relative_to(folder) for file in list_files(f"{folder}/{pattern}")}
    root, wanted = _parted(f"gs://bucket/top/{pattern}")
    every = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    below = Path(root.text.removeprefix("gs://bucket/top").strip("/"))
    there = {
        path
        for path in every
        if below in path.parents and wanted.fullmatch(str(path.relative_to(below)))
    }
    assert there == here


@pytest.fixture
def archive(gs: str, home: Home) -> str:
    """Three files in a bucket, as a subscription puts them, and others beside them."""
    address = f"{gs}/{home.folder.parent.name}"
    store = Store(folder_of(address))
    for number, case in enumerate(CASES):
        path = home.put(packed("scores", [case], first=number), name=f"{number}")
        store.write(f"2026/11/2{number}/{number}.avro", path.read_bytes())
    store.write("2026/11/notes.txt", b"nothing")
    store.write("2026/11/.hidden.avro", b"nothing")
    return address


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("", "012"),
        ("/2026", "012"),
        ("/2026/**/*.avro", "012"),
        ("/2026/11/2[01]/*", "01"),
        ("/2026/*/22/2.avro", "2"),
        ("/2026/11/20/0.avro", "0"),
    ],
)
def test_files_of_a_bucket_are_listed_in_order(archive: str, pattern: str, numbers: str) -> None:
    found = match_files(archive + pattern)
    assert [file.path for file in found] == [
        f"{archive}/2026/11/2{number}/{number}.avro" for number in numbers
    ]
    assert all(file.bytes > 100 and file.written > 1e18 for file in found)


def test_a_run_over_a_bucket_is_the_run_over_its_copy(
    archive: str, home: Home, tmp_path: Path
) -> None:
    copy = Home(tmp_path / "copy")
    assert copy.run("--no_arize", files=str(home.input)).files == 3
    assert home.run("--no_arize", files=f"{archive}/2026/**/*.avro").files == 3
    assert home.rows("scores") == copy.rows("scores")
    assert len(home.rows("scores")) == 3
    again = home.run("--no_arize", files=archive)
    assert (again.files, len(home.rows("scores"))) == (3, 3)


def test_a_damaged_file_of_a_bucket_is_named(
    archive: str, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(folder_of(archive))
    whole = io.BytesIO(store.read("2026/11/20/0.avro")).getvalue()
    store.write("2026/11/20/0.avro", whole[:-20])
    report = home.run("--no_arize", files=archive)
    assert report.files == 3
    assert f"{archive}/2026/11/20/0.avro is damaged" in caplog.text
    assert len(home.rows("scores")) == 2
    assert not list(stored(home.folder / "failures"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{archive}/2027/*.avro", "no file matches"),
        ("gs://no-such-bucket-here/a", "(cannot be listed|no file matches)"),
        ("gs://", "neither a path nor of the form gs://BUCKET/PREFIX"),
        ("ftp://host/*.avro", "neither a path nor of the form"),
    ],
)
def test_what_names_nothing_is_said(archive: str, pattern: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--input_files: .*{message}"):
        match_files(pattern.format(archive=archive))


def test_a_bucket_is_not_followed() -> None:
    with pytest.raises(click.UsageError, match="folders of this machine"):
        parse_run(["--input_files", "gs://bucket/archive", "--follow"])
