"""Stored envelopes run again: what is missing comes, what is done is marked, twice is once."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from forked import killed_at
from support import NOW, PACKAGES, Home, at, environment, packed, plain, scored

from pipelines import marks
from pipelines.cli import _main
from pipelines.identity import identity
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver
from pipelines.replay.letters import open_messages
from pipelines.selection import group_of
from pipelines.store import Store
from pipelines.tables import Tables
from weighbridge.archive import read_archive

GOOD, TOO_HIGH, WORDS = scored(0.5), scored(7.0, prefix="h"), scored("x", prefix="w")
Cli = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def cli(home: Home, capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*words: str, status: int = 0) -> str:
        own = ["--home", str(home.folder), "--extractors_package", home.package]
        assert _main([*words, *own]) == status
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    return call


def open_ids(home: Home, folder: str = "failures") -> list[str]:
    return [
        item.message.attributes.get("envelope_id") or item.message.message_id
        for item in open_messages(Store(home.folder), folder)
    ]


def test_dead_letters_become_rows_once_their_cause_is_mended(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [GOOD, TOO_HIGH, WORDS]))
    home.run()
    before = home.stored("failures")
    assert sorted(open_ids(home)) == ["pub-1", "pub-2"]
    home.package = "mended"
    said = cli("replay", "--failures", "--no_arize")
    # A word is no number, which `mended` says at another place than `odd`.
    assert "dead letters: 1 done; 1 failed for another cause, and point at the first" in said
    assert home.row_ids("scores") == ["pub-0:0", "pub-1:0"]
    [letter] = [item.message for item in open_messages(Store(home.folder), "failures")]
    first = next(m for m in before if m.attributes["envelope_id"] == "pub-2")
    noted = [row for row in home.rows("failures", "weighbridge") if row["first"]]
    assert [row["failed_envelope_id"] for row in noted] == ["pub-2"]
    assert letter.data == first.data
    assert letter.attributes["failure_first"] == noted[0]["first"] == identity(first).hex()
    assert letter.attributes["failure_fingerprint"] != first.attributes["failure_fingerprint"]
    assert [m for m in home.stored("failures") if m != letter] == before, "nothing is removed"
    again = cli("replay", "--failures", "--no_arize")
    assert "dead letters: 0 done; 1 failed for the same cause again" in again
    assert open_ids(home) == ["pub-2"]
    assert home.row_ids("scores") == ["pub-0:0", "pub-1:0"]


def test_a_letter_that_failed_twice_points_at_its_very_first(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [WORDS]))
    home.run()
    [first] = open_messages(Store(home.folder), "failures")
    for package in ("mended", "odd", "mended"):
        home.package = package
        cli("replay", "--failures", "--no_arize")
    found = [m.attributes.get("failure_first") for m in home.stored("failures")]
    assert Counter(found) == {None: 1, first.identity.hex(): len(found) - 1}


def test_only_what_is_selected_is_run(home: Home, cli: Cli) -> None:
    old = NOW - timedelta(days=3)
    bad = [
        plain("scores", TOO_HIGH, message_id="new"),
        plain("scores", TOO_HIGH, message_id="old", at=old),
        plain("scores", b"{", message_id="broken"),
        plain("scores-objects", scored(5.0), message_id="other"),
    ]
    home.put(*bad)
    home.run()
    home.package = "mended"
    cli("replay", "--failures", "--model", "scores", "--until", "2d", "--no_arize")
    assert home.row_ids("scores") == ["old:0"]
    [group] = {
        item.attributes["failure_fingerprint"]
        for item in home.stored("failures")
        if item.message_id == "new"
    }
    assert group
    cli("replay", "--failures", "--model", "scores", "--since", at(old), "--no_arize")
    assert home.row_ids("scores") == ["new:0", "old:0"]
    assert sorted(open_ids(home)) == ["broken", "other"]


def test_one_group_is_run(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [TOO_HIGH, WORDS]))
    home.run()
    groups = {m.attributes["envelope_id"]: group_of(m) for m in home.stored("failures")}
    assert len(set(groups.values())) == 2
    home.package = "mended"
    cli("replay", "--failures", groups["pub-0"], "--no_arize")
    assert home.row_ids("scores") == ["pub-0:0"]
    assert open_ids(home) == ["pub-1"]


def test_a_registered_model_gets_its_history(home: Home, cli: Cli) -> None:
    home.package = "extractors"
    home.put(packed("scores", [GOOD, WORDS]), plain("unheard-of", GOOD, message_id="u"))
    home.run()
    parked = home.rows("parked", "weighbridge")
    assert [row["envelope_id"] for row in parked] == ["pub-0", "pub-1", "u"]
    assert all((home.folder / row["file"]).exists() for row in parked)
    home.package = "odd"
    said = cli("replay", "--model", "scores", "--no_arize")
    assert "parked messages: 1 done" in said
    assert home.row_ids("scores") == ["pub-0:0"]
    assert open_ids(home) == ["pub-1"]
    assert [item.message.message_id for item in open_messages(Store(home.folder), "parked")] == [
        "u"
    ]
    assert "nothing to run again" in cli("replay", "--parked", "--model", "scores", "--no_arize")
    assert "1 are parked as before" in cli("replay", "--parked", "--no_arize")


def test_an_archive_of_many_models_gives_those_of_one(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [GOOD]), plain("scores-objects", GOOD, message_id="other"))
    said = cli("replay", "--archive", str(home.input), "--model", "scores", "--no_arize")
    assert "scores 1 0 1" in said
    assert home.row_ids("scores") == ["pub-0:0"]
    assert home.row_ids("scores_objects") == []


def test_a_dry_run_changes_nothing(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [GOOD, TOO_HIGH, scored(0.25)]))
    home.run()
    before = sorted(home.folder.rglob("*"))
    home.package = "mended"
    more = ("--archive", str(home.input), "--dry_run", "--no_arize")
    assert "models.scores 3 2 1" in cli("replay", *more)
    assert "replaced" in cli("replay", *more, "--rewrite")
    said = cli("replay", "--failures", "--dry_run", "--no_arize")
    assert "models.scores 1 0 1" in said
    assert "1 stored messages in them" in said
    assert sorted(home.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to run again"),
        (["--rewrite", "--model", "scores"], "add that"),
        (["--failures", "ab12", "--parked"], "a group is of dead letters"),
        (["--failures", "ab12"], "no dead letters of a group ab12; see `weighbridge failures`"),
        (["--model", "nobody"], "write its extractor first"),
        (["--failures", "--since", "yesterday"], "is no time; write 2026-11-24"),
        (["--archive", "nowhere/*.avro"], "--archive: no file matches"),
        (["--failures", "--flow"], "no such option: --flow"),
    ],
)
def test_wrong_usage_is_said(home: Home, cli: Cli, words: list[str], said: str) -> None:
    assert said in cli("replay", *words, "--no_arize", status=2)


def test_a_run_that_was_killed_before_its_commit_gets_its_rows_about_letters(home: Home) -> None:
    home.put(packed("scores", [WORDS]))
    kill(home, "before catalog", "--input_files", str(home.input / "*.avro"), "--no_arize")
    [letter] = home.stored("failures")
    assert home.rows("failures", "weighbridge") == []
    home.run()
    home.run()
    [row] = home.rows("failures", "weighbridge")
    assert home.stored("failures") == [letter]
    assert row["failed_envelope_id"] == "pub-0"
    assert row["fingerprint"] == letter.attributes["failure_fingerprint"]
    with open(home.folder / row["file"], "rb") as stream:
        assert list(read_archive(stream))[row["position"]] == letter


STEPS = [
    f"{when} {what}"
    for what in ("data file", "dead letter", "entry", "catalog", "mark", "upload")
    for when in ("before", "after")
]
QUICK = {"after catalog"}


@pytest.mark.parametrize(
    "step", [pytest.param(s, marks=[] if s in QUICK else pytest.mark.slow) for s in STEPS]
)
def test_a_killed_replay_is_made_whole_by_the_next(home: Home, cli: Cli, step: str) -> None:
    bodies = [scored(7.0, prefix=f"c{i}") for i in range(20)]
    home.put(packed("scores", [*bodies, WORDS]))
    home.run()
    home.package = "mended"
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        words = ["replay", "--failures", "--arize_url", receiver.url]
        kill(home, step, *words)
        assert len(home.stored("failures")) in (21, 22), "no letter is lost"
        cli(*words)
        cli(*words)
        got = Counter(
            id_ for upload in receiver.uploads for id_ in upload.table["prediction_id"].to_pylist()
        )
    assert home.row_ids("scores") == sorted(f"pub-{i}:0" for i in range(20))
    assert open_ids(home) == ["pub-20"]
    assert Outbox(home.folder).entries() == set()
    assert set(got) == {f"c{i}-0" for i in range(20)}
    assert Store(home.folder).names(marks.REPLAYS, marks.SUFFIX) == []


def scores(home: Home) -> dict[str, float]:
    return {row["row_id"]: row["score"] for row in home.rows("scores")}


def kill(home: Home, step: str, *words: str) -> None:
    """Run a command in a process that kills itself at a step."""
    killed_at(step, *words, "--home", str(home.folder), "--extractors_package", home.package)


def test_rewritten_rows_stand_in_the_place_of_the_old_ones(home: Home, cli: Cli) -> None:
    yesterday = NOW - timedelta(days=1)
    old = [packed("scores", [scored(0.25, 0.5, prefix=f"o{i}")], first=i) for i in range(3)]
    day = packed("scores", [scored(0.5, prefix="y")], first=7, at=yesterday)
    home.put(*old, day, name="old")
    home.put(packed("scores", [scored(0.5, prefix="s")], first=20), name="stays")
    home.run()
    home.package = "halved"
    home.put(*old, day, packed("scores", [scored(1.0, prefix="n")], first=30), name="old")
    words = ("replay", "--archive", str(home.input / "old.avro"), "--model", "scores", "--rewrite")
    said = cli(*words, "--no_arize")
    assert "scores 5 0 8" in said, said
    wanted = {f"pub-{i}:{k}": score for i in range(3) for k, score in ((0, 0.125), (1, 0.25))}
    wanted |= {"pub-7:0": 0.25, "pub-20:0": 0.5, "pub-30:0": 0.5}
    assert scores(home) == wanted
    table = Tables(home.folder).load("models.scores")
    before = table.current_snapshot()
    assert "scores 5 0 0" in cli(*words, "--no_arize")
    assert Tables(home.folder).load("models.scores").current_snapshot() == before
    cli("replay", "--archive", str(home.input), "--no_arize")
    assert scores(home) == wanted, "what is there is known"


@pytest.mark.slow
def test_rows_are_replaced_back_and_forth(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [scored(0.5), scored(0.75, prefix="d")]))
    home.run()
    for package, wanted in [("halved", 0.25), ("odd", 0.5), ("halved", 0.25)]:
        home.package = package
        for added in (2, 0):
            said = cli("replay", "--archive", str(home.input), "--rewrite", "--no_arize")
            assert f"scores 2 0 {added}" in said
            assert scores(home)["pub-0:0"] == wanted


def test_an_envelope_that_fails_today_keeps_its_rows(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [scored(0.5), scored(0.75, prefix="d")]))
    home.run()
    home.package = "strict"
    cli("replay", "--archive", str(home.input), "--rewrite", "--no_arize")
    assert scores(home) == {"pub-0:0": 0.5, "pub-1:0": 0.75}
    assert open_ids(home) == ["pub-1"]


def test_an_envelope_that_is_twice_in_a_rewritten_archive_is_once_in_the_table(
    home: Home, cli: Cli
) -> None:
    home.put(packed("scores", [scored(0.5)]), name="a")
    home.run()
    home.package = "halved"
    again = packed("scores", [scored(0.5), scored(0.75, prefix="d")])
    home.put(again, name="b")
    cli("replay", "--archive", str(home.input), "--rewrite", "--workers", "2", "--no_arize")
    assert scores(home) == {"pub-0:0": 0.25, "pub-1:0": 0.375}


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("before entry", marks=pytest.mark.slow),
        "before catalog",
        pytest.param("after data file", marks=pytest.mark.slow),
        pytest.param("after entry", marks=pytest.mark.slow),
        pytest.param("after catalog", marks=pytest.mark.slow),
        pytest.param("after upload", marks=pytest.mark.slow),
    ],
)
def test_a_killed_rewrite_leaves_old_rows_or_new_ones(home: Home, cli: Cli, step: str) -> None:
    bodies = [scored(0.5, prefix=f"c{i}") for i in range(20)]
    home.put(packed("scores", bodies))
    home.run()
    home.package = "halved"
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        words = ["replay", "--archive", str(home.input), "--rewrite", "--arize_url", receiver.url]
        kill(home, step, *words)
        assert set(scores(home).values()) in ({0.5}, {0.25})
        cli(*words)
        got = [score for upload in receiver.uploads for score in upload.table["score"].to_pylist()]
    assert scores(home) == {f"pub-{i}:0": 0.25 for i in range(20)}
    assert Outbox(home.folder).entries() == set()
    assert set(got) == {0.25}
    assert len(got) in (20, 40)


def test_rewriting_on_a_runner_with_workers(home: Home, cli: Cli) -> None:
    home.put(packed("scores", [scored(0.5), scored(0.75, prefix="d")]))
    home.run()
    home.package = "halved"
    words = ("replay", "--archive", str(home.input), "--rewrite", "--no_arize")
    with environment(PYTHONPATH=str(PACKAGES)):
        cli(*words, "--direct_running_mode=multi_threading")
    assert scores(home) == {"pub-0:0": 0.25, "pub-1:0": 0.375}
