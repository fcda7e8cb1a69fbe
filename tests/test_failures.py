"""Dead letters and parked models as people see them: by cause, and without a value of the input."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from support import NOW, Home, micros, packed, plain, scored

from pipelines.cli import _main
from pipelines.commands.terminal import console
from pipelines.replay.parked import MAX_DEPTH, MAX_KEYS, shape
from pipelines.selection import group_of
from schemas.failure import MAX_TRACE, own_traceback

Cli = Callable[..., str]
CANARY = "canary-4711"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def cli(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setattr(console, "_width", 120)  # read from the environment once

    def call(*words: str, status: int = 0) -> str:
        own = ["--home", str(home.folder), "--extractors_package", home.package]
        assert _main([*words, *own]) == status
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    return call


def test_one_bug_is_one_line(home: Home, cli: Cli) -> None:
    long_ago = NOW - timedelta(days=2)
    home.put(
        packed("scores", [scored(0.5, 7.0 + i, prefix=f"a{i}") for i in range(5)]),
        plain("scores", scored(8.0), message_id="one", at=long_ago),
        plain("scores", b"{", message_id="broken"),
    )
    home.run()
    said = cli("failures")
    [high] = {group_of(m) for m in home.stored("failures") if "column score" in _message(m)}
    first, last = f"{long_ago:%Y-%m-%d %H:%M:%S}", f"{NOW:%Y-%m-%d %H:%M:%S}"
    assert f"{high} 6 validate scores {first} {last}" in said
    assert "e.g. envelope one; owner: nobody is named; extractor" in said
    assert "row 1" not in said, "the place in the record is no part of the cause"
    assert said.count("e.g. envelope") == 2
    assert "broken" not in cli("failures", "--until", "1d")
    assert "no dead letters are selected" in cli("failures", "--model", "other")


def _message(letter: object) -> str:
    return str(letter.attributes["failure_message"])  # type: ignore[attr-defined]


def test_an_envelope_counts_once_and_another_version_is_another_line(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [scored("x"), scored("y")]))
    home.run()
    home.run()
    assert " 2 validate scores" in cli("failures")
    before = {group_of(m) for m in home.stored("failures")}
    home.package = "mended"
    cli("replay", "--failures", "--no_arize")
    after = {group_of(m) for m in home.stored("failures")} - before
    assert [name in cli("failures") for name in (*before, *after)] == [False, True]


def test_a_group_shows_where_it_failed_and_where_the_bytes_are(home: Home, cli: Cli) -> None:
    home.put(
        packed("raises", [{"request": {CANARY: i}, "response": CANARY} for i in range(7)]),
    )
    home.run()
    letters = home.stored("failures")
    group = group_of(letters[0])
    said = cli("failures", "show", group[:6])
    assert "stage extract" in said
    assert "in the extractor's code broken.py:" in said
    assert "and 2 more" in said
    files = [str(path) for path in (home.folder / "failures").rglob("*.avro")]
    assert f"{min(files)}, message 0" in said
    assert CANARY not in said + cli("failures")
    assert CANARY in cli("failures", "show", group, "--payload")
    assert "no dead letters of a group 00" in cli("failures", "show", "00000000", status=2)


def test_hostile_ids_are_not_printed_as_they_are(home: Home, cli: Cli) -> None:
    home.put(
        plain(f"{CANARY}/..", scored(0.5), message_id="m1"),
        plain("scores", b"{", message_id="\x1b[31m" + "x" * 10_000),
    )
    home.run()
    said = cli("failures")
    assert CANARY not in said
    assert "\x1b" not in said
    assert len(said) < 2000
    assert {row["model_id"] for row in home.rows("failures", "weighbridge")} == {None, "scores"}


def test_undecodable_bytes_can_be_shown(home: Home, cli: Cli) -> None:
    home.put(plain("scores", b'{"a": \x00\xff', message_id="broken"))
    home.run()
    [letter] = home.stored("failures")
    assert '{"a": \\x00\\xff' in cli("failures", "show", group_of(letter), "--payload")


def test_the_table_counts_by_hour(home: Home) -> None:
    earlier = NOW - timedelta(hours=5)
    home.put(
        plain("scores", scored("x"), message_id="a"),
        plain("scores", scored("y"), message_id="b", at=earlier),
        plain(None, b"", message_id="c", at=earlier),
    )
    home.run()
    rows = home.rows("failures", "weighbridge")
    found = {(r["failed_envelope_id"], r["stage"], micros(r["event_time"])) for r in rows}
    assert found == {
        ("a", "validate", micros(NOW)),
        ("b", "validate", micros(earlier)),
        ("c", "decode", micros(earlier)),
    }
    assert all((home.folder / row["file"]).is_file() for row in rows)


def test_parked_models_show_their_shape(home: Home, cli: Cli) -> None:
    bodies = [{"request": {"houses": [{"city": CANARY, "m2": 90.5}]}, "response": [1, None]}]
    home.put(
        packed("house-price", bodies * 3),
        plain("house-price", {"actual": {}}, message_id="t", at=NOW - timedelta(days=1)),
        plain("other", {"request": 1, "response": True}, message_id="o"),
    )
    home.run()
    said = cli("models", "--parked")
    assert f"house-price 4 {NOW - timedelta(days=1):%Y-%m-%d %H:%M:%S}" in said
    assert "other 1" in said
    assert "response: boolean" in said
    assert CANARY not in said
    assert "actual: empty object" in said or "request.houses[].city: string" in said


def test_a_shape_is_bounded() -> None:
    deep: object = 1
    for _ in range(1000):
        deep = {"k": deep}
    assert list(shape(deep, "request")) == ["request" + ".k" * MAX_DEPTH + ": object"]
    many = list(shape({f"k{i}": i for i in range(1000)}, "r"))
    assert len(many) == MAX_KEYS + 1
    assert many[-1] == f"r: {1000 - MAX_KEYS} more keys"
    assert list(shape({"a": [], "b": None, "c": [[1.5]], "d": {}}, "r")) == [
        "r.a[]: empty",
        "r.b: null",
        "r.c[][]: number",
        "r.d: empty object",
    ]


def _fall(depth: int) -> None:
    if depth:
        _fall(depth - 1)
    else:
        raise KeyError(CANARY)


def test_a_traceback_is_bounded_and_shows_own_code_only() -> None:
    with pytest.raises(KeyError) as found:
        _fall(200)
    trace = own_traceback(found.value, __name__)
    assert len(trace) <= MAX_TRACE
    assert trace.endswith("raise KeyError(CANARY)")
    assert trace.startswith("test_failures.py:")
    assert "canary" not in trace.replace("CANARY", "")
    assert own_traceback(found.value, "json.decoder") == ""
