"""Two versions of an extractor, or an extractor and a table, over the same captured traffic."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from support import Home, packed, scored

from pipelines.cli import _main
from pipelines.commands.terminal import console
from pipelines.compare.differences import differences
from pipelines.compare.side import Side

CANARY = "canary-4711"
Cli = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def cli(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setattr(console, "_width", 120)  # read from the environment once

    def call(*words: str, package: str = "", status: int = 0) -> str:
        more = ["--home", str(home.folder), "--extractors_package", package or home.package]
        assert _main(["compare", "--archive", str(home.input), *words, *more]) == status
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    return call


def test_the_same_extractor_makes_no_difference(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [scored(0.5, 0.25), scored("x")]))
    home.run()
    before = sorted(home.folder.rglob("*"))
    said = cli("--model", "scores", "--check")
    assert "rows: 2 same, 0 changed, 0 added, 0 gone" in said
    assert "0 fail only now, 0 failed only before, 1 fail on both sides" in said
    assert sorted(home.folder.rglob("*")) == before, "nothing is written"


def test_another_extractor_is_compared_with_the_table(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [scored(0.5, 1.0), scored(7.0, prefix="h"), scored(0.5, prefix="d")]))
    home.run()
    said = cli("--model", "scores", "--check", package="halved", status=1)
    assert "rows: 0 same, 3 changed, 0 added, 0 gone" in said
    # 7 is halved to 3.5, which is too much for both.
    assert "1 fail on both sides" in said
    assert (
        "score, 3 changed before 0.0% 2 0.6667 0.5 0.5 0.95 now 0.0% 2 0.3333 0.25 0.25 0.475"
        in said
    )
    said = cli("--model", "scores", package="mended")
    assert "rows: 3 same, 0 changed, 1 added, 0 gone" in said
    assert "0 fail only now, 1 failed only before" in said
    said = cli("--model", "scores", package="strict")
    assert "rows: 1 same, 0 changed, 0 added, 2 gone" in said
    assert "1 fail only now" in said


def test_numbers_are_whole_on_a_terminal_of_80_columns(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 80)
    cases = [{"id": str(n), "amount": -1.23456e-8 * (n + 1)} for n in range(30)]
    body = {"request": {"cases": cases}, "response": {"scores": [0.123456] * 30}}
    home.put(packed("scores", [body]))
    home.run()
    arguments = ["--model", "scores", "--home", str(home.folder), "--extractors_package", "halved"]
    assert _main(["compare", "--archive", str(home.input), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    [start] = [number for number, line in enumerate(lines) if line.startswith(" column ")]
    assert max(map(len, lines[start:])) <= 80
    [amount] = [" ".join(line.split()) for line in lines if line.startswith(" amount ")]
    assert amount == "amount 0.0% 30 -1.914e-07 -3.525e-07 -1.914e-07 -3.025e-08"
    sides = [" ".join(line.split()) for line in lines if line.startswith(("   before", "   now"))]
    assert sides[-2:] == [
        "before 0.0% 1 0.1235 0.1235 0.1235 0.1235",
        "now 0.0% 1 0.06173 0.06173 0.06173 0.06173",
    ]


def test_no_value_of_the_input_is_printed(home: Home, cli: Cli) -> None:
    body = {"request": {"cases": [{"id": CANARY, "amount": 1}]}, "response": {"scores": [0.5]}}
    bad = {"request": {"cases": [{"id": CANARY, "amount": CANARY}]}, "response": {"scores": [1]}}
    home.put(packed("scores", [body, bad]))
    home.run()
    assert CANARY not in cli("--model", "scores", package="halved")


MODEL = """
from collections.abc import Iterator

from extractors import Envelope, Row, extractor


class Price(Row):
    price: float
    {column}


@extractor("price", row=Price, model_type="untyped")
def extract(envelope: Envelope) -> Iterator[dict]:
    yield {{"price": envelope.response["price"] * {factor}, {more}}}
"""


@pytest.mark.slow
def test_a_git_revision_is_the_other_side(
    home: Home, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "repository" / "code" / "priced"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")

    def commit(**parts: str) -> None:
        (folder / "price.py").write_text(MODEL.format(**parts))
        git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(["git", "init", "-q", str(tmp_path / "repository")], check=True)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", "model"], check=True)

    commit(column="area: int = 1", factor="1", more="")
    commit(column="rooms: int | None = None", factor="2", more="'rooms': None")
    monkeypatch.syspath_prepend(folder.parent)
    home.put(packed("price", [{"request": 0, "response": {"price": i}} for i in range(4)]))
    said = cli("--model", "price", "--against", "HEAD~1", package="priced")
    assert "priced at HEAD~1" in said
    assert "rows: 0 same, 4 changed, 0 added, 0 gone" in said
    assert "rooms before none now 100.0%" in said
    assert "area, 4 changed before 0.0% 1 1 1 1 1 now none" in said
    same = cli("--model", "price", "--against", "HEAD", "--check", package="priced")
    assert "rows: 4 same" in same
    assert "--against: nowhere is neither a table nor a revision" in cli(
        "--model", "price", "--against", "nowhere", package="priced", status=2
    )
    assert "there is no table models.price yet" in cli(
        "--model", "price", package="priced", status=2
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "nobody"], "no prediction extractor of nobody in odd"),
        (["--model", "scores", "--flow"], "no such option"),
    ],
)
def test_wrong_usage_is_said(home: Home, cli: Cli, words: list[str], said: str) -> None:
    home.put(packed("scores", [scored(0.5)]))
    assert said in " ".join(cli(*words, status=2).lower().split())


def side(ids: list[str], **columns: pa.Array) -> Side:
    return Side("side", pa.table({"row_id": pa.array(ids), **columns}))


def test_nan_null_nested_and_other_types() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    kind = pa.map_(pa.string(), pa.float64())
    old = side(
        ["a", "b", "c"],
        number=pa.array([1.0, float("nan"), None]),
        count=pa.array([1, 2, 3]),
        scores=pa.array([[("x", 1.0), ("y", 2.0)], None, []], kind),
        at=pa.array([moment] * 3, pa.timestamp("us", "UTC")),
    )
    new = side(
        ["b", "c", "d"],
        number=pa.array([float("nan"), 1.0, 1.0]),
        count=pa.array(["2", "4", "5"]),
        scores=pa.array([None, [("x", 1.0)], None], kind),
        at=pa.array([moment] * 3, pa.timestamp("us", "UTC")),
    )
    found = differences(old, new)
    assert (found.same, found.changed, found.added, found.gone) == (1, 1, 1, 1)
    assert {c.name: c.changed for c in found.columns} == {
        "number": 1,
        "count": 1,
        "scores": 1,
        "at": 0,
    }
    [number] = [column for column in found.columns if column.name == "number"]
    assert number.now is not None
    assert number.now.mean == 1.0
    assert number.before is not None
    assert (round(number.before.nulls, 3), number.before.quantiles) == (0.333, [1.0, 1.0, 1.0])
