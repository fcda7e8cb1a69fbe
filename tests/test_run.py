"""The whole run through `run(argv)`: files in, tables, dead letters, parked messages out."""

import gc
import os
import re
import subprocess
import sys
import weakref
from datetime import timedelta
from pathlib import Path

import apache_beam as beam
import click
import pytest
from support import (
    NOW,
    PACKAGES,
    Home,
    at,
    environment,
    heartbeat,
    micros,
    packed,
    plain,
    scored,
    untyped,
    write_package,
)

from extractors import load_extractors
from pipelines.graph import build
from pipelines.main import run
from pipelines.options import parse_run
from schemas import ConfigurationError
from weighbridge import EnvelopePublisher


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_one_plain_envelope_becomes_one_row(home: Home) -> None:
    home.put(plain("scores", scored(0.75), message_id="m1", event_time=at(NOW), model_version="3"))
    report = home.run()
    assert report.rows == 1
    [row] = home.rows("scores")
    assert row.pop("extractor_version")
    assert row == {
        "envelope_id": "m1",
        "row_id": "m1:0",
        "prediction_id": "c-0",
        "model_id": "scores",
        "model_version": "3",
        "event_time": NOW,
        "ingest_time": NOW,
        "case_id": "c-0",
        "amount": 0.0,
        "country": None,
        "seen_at": None,
        "channel": None,
        "label": "yes",
        "score": 0.75,
    }


def test_captured_traffic_arrives_with_its_actuals(home: Home) -> None:
    publisher = EnvelopePublisher(home.input, headers=["x-channel"])
    ids = [
        publisher.capture(
            "scores",
            b'{"cases": [{"id": "a%d", "amount": 2}, {"id": "b%d", "amount": 3.5}]}' % (i, i),
            b'{"scores": [0.25, 0.5]}',
            context=b'{"seen_at": "2026-01-01T00:00:00+01:00"}',
            headers={"X-Channel": "web"},
            model_version="v9",
        )
        for i in range(700)
    ]
    truth = publisher.capture_actual("scores", b'{"cases": [{"id": "a0", "label": "no"}]}')
    publisher.close()
    report = home.run()
    assert not report.failures
    rows = home.rows("scores")
    assert [row["row_id"] for row in rows] == sorted(f"{id_}:{i}" for id_ in ids for i in (0, 1))
    assert {row["model_version"] for row in rows} == {"v9"}
    assert {row["channel"] for row in rows} == {"web"}
    assert {row["amount"] for row in rows} == {2.0, 3.5}
    assert {row["seen_at"].isoformat() for row in rows} == {"2025-12-31T23:00:00+00:00"}
    assert home.row_ids("scores_actuals") == [f"{truth}:0"]


def test_a_run_keeps_no_garbage_of_the_one_before(home: Home) -> None:
    home.put(plain("scores", scored(0.75), message_id="m1"))
    home.run()
    garbage = Home(home.folder)
    garbage.__dict__["ring"] = garbage
    left = weakref.ref(garbage)
    del garbage
    home.run()
    gc.collect()
    assert left() is None


def test_a_second_run_adds_nothing(home: Home) -> None:
    home.put(
        packed("scores", [scored(0.1, 0.9), scored(7), scored(0.5)]),
        plain("unheard-of", {"request": 1, "response": 2}, message_id="p1"),
        plain("scores", b"no json", message_id="d1"),
    )
    first = home.run()
    rows, failures, parked = (
        home.row_ids("scores"),
        home.stored("failures"),
        home.stored("parked"),
    )
    assert (first.rows, len(failures), len(parked)) == (3, 2, 1)
    second = home.run()
    assert second.rows == 0
    assert {table.table: table.known for table in second.tables}["scores"] == 2
    assert home.row_ids("scores") == rows
    assert home.stored("failures") == failures
    assert home.stored("parked") == parked


@pytest.mark.parametrize("name", ["with space", "häuser", "100%", "a+b", "c,d=e"])
def test_a_home_of_any_name(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / name)
    home.put(packed("scores", [scored(0.5)]))
    home.run()
    assert home.run().rows == 0
    assert home.row_ids("scores") == ["pub-0:0"]


def test_one_home_by_two_names(home: Home, tmp_path: Path) -> None:
    home.put(packed("scores", [scored(0.5)]))
    home.run()
    (tmp_path / "link").symlink_to(home.folder)
    home.put(packed("scores", [scored(0.5)], first=1), name="b")
    home.folder = tmp_path / "home" / ".." / "link"
    assert home.run().rows == 1
    assert home.row_ids("scores") == ["pub-0:0", "pub-1:0"]


def test_overlapping_input_adds_what_is_missing(home: Home) -> None:
    one, two, three = (packed("scores", [scored(0.5, prefix=str(i))], first=i) for i in range(3))
    home.put(one, two, name="a")
    home.run()
    home.put(two, three, name="b")
    home.put(three, one, name="c")
    assert home.run().rows == 1
    assert home.row_ids("scores") == ["pub-0:0", "pub-1:0", "pub-2:0"]


def test_an_envelope_that_comes_twice_in_a_run_is_one(home: Home) -> None:
    message = packed("scores", [scored(0.5, 0.6), scored(0.7)])
    home.put(message, message._replace(message_id="again"), name="a")
    home.put(message._replace(message_id="once more"), name="b")
    report = home.run()
    assert report.rows == 3
    [table] = [table for table in report.tables if table.table == "scores"]
    assert (table.envelopes, table.known) == (6, 4)
    assert home.row_ids("scores") == ["pub-0:0", "pub-0:1", "pub-1:0"]


def test_rows_lie_in_the_partition_of_their_event_however_late(home: Home) -> None:
    times = [NOW - timedelta(days=days) for days in (0, 1, 400)]
    home.put(
        *(
            plain("scores", scored(0.5), message_id=f"m{i}", event_time=at(time))
            for i, time in enumerate(times)
        )
    )
    home.run()
    folders = {path.name for path in (home.folder / "tables").glob("**/event_day=*")}
    assert folders == {f"event_day={time:%Y-%m-%d}" for time in times}
    assert [row["event_time"] for row in home.rows("scores")] == times


def test_skipped_envelopes_leave_their_ids(home: Home) -> None:
    home.put(
        packed("scores", [scored(0.5), {"request": b"<", "response": b"x"}], status=[200, 503]),
        plain("nothing", {"request": 1, "response": 1}, message_id="n"),
        plain("scores", {"request": 1, "response": 1}, message_id="e", status="404"),
    )
    report = home.run()
    skipped = {table.table: table.skipped for table in report.tables if table.skipped}
    assert skipped == {"scores": 2, "nothing": 1}
    assert not report.failures
    assert home.row_ids("scores") == ["pub-0:0"]
    home.run()
    noted = home.rows("skipped", "weighbridge")
    names = ("envelope_id", "row_id", "model_id", "kind", "model_version", "reason", "status")
    assert [tuple(row[name] for name in names) for row in noted] == [
        ("e", "e:0", "scores", "prediction", "", "status", 404),
        ("n", "n:0", "nothing", "prediction", "", "no_rows", None),
        ("pub-1", "pub-1:0", "scores", "prediction", "7", "status", 503),
    ]
    assert {row["ingest_time"] for row in noted} == {NOW}


def test_a_skipped_envelope_of_an_impossible_time_is_noted_at_its_publish_time(home: Home) -> None:
    home.put(packed("scores", [scored(0.5)], status=[500], event_time=[2**62]))
    assert not home.run().failures
    assert [row["event_time"] for row in home.rows("skipped", "weighbridge")] == [NOW]


def test_heartbeats_become_rows_once(home: Home) -> None:
    counted = {"served": 9, "sampled_out": 1, "spooled": 0, "published": 7}
    models = [
        {"model_id": "scores", "dropped": {"queue_full": 1}, **counted},
        {"model_id": "unheard-of", "dropped": {}, **counted},
    ]
    home.put(
        heartbeat("pub", models, sequence=18),
        heartbeat("idle", [], sequence=0),
        heartbeat("broken", [], sequence=0, time=2**62),
    )
    assert home.run().heartbeats == 2
    assert [m.attributes["failure_stage"] for m in home.stored("failures")] == ["decode"]
    rows = home.rows("heartbeats", "weighbridge")
    assert [(row["row_id"].replace(str(micros(NOW)), "T"), row["model_id"]) for row in rows] == [
        ("idle@T:0", None),
        ("pub@T:0", "scores"),
        ("pub@T:1", "unheard-of"),
    ]
    assert {**rows[1], **counted, "dropped": [("queue_full", 1)], "sequence": 18} == rows[1]
    home.run()
    assert home.rows("heartbeats", "weighbridge") == rows


def test_parked_messages_become_rows_once_their_model_is_registered(
    home: Home, tmp_path: Path
) -> None:
    message = packed("scores", [scored(0.5), scored(0.25)], status=[200, 500])
    home.package = "extractors"
    home.put(message)
    assert home.run().parked == 2
    assert home.stored("parked") == [message._replace(attributes=dict(message.attributes))]
    home.package = "odd"
    report = home.run(files=str(home.folder / "parked/**/*.avro"))
    assert report.rows == 1
    assert home.row_ids("scores") == ["pub-0:0"]


def test_what_an_excluded_model_sent_is_parked_until_it_is_back(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path, "maimed", number=untyped("int"), scored_cases="print(undefined)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    home.package = "maimed"
    home.put(plain("number", {"request": {"number": 1}, "response": 1}, message_id="m"))
    with pytest.raises(ConfigurationError, match="--exclude_model scored_cases, which parks"):
        home.run()
    config = tmp_path / "maimed.toml"
    config.write_text("[models.scored-cases]\narize = 'off'\n")
    excluded = ("--exclude_model", "scored-cases", "--config", str(config), "--no_arize")
    assert home.run(*excluded).rows == 1
    home.put(packed("scored-cases", [scored(0.5)]), name="b")
    assert home.run(*excluded).parked == 1
    assert [m.attributes["model_id"] for m in home.stored("parked")] == ["scored-cases"]


def test_wrong_usage_is_said_in_one_message(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARIZE_API_KEY", raising=False)
    monkeypatch.delenv("ARIZE_SPACE_ID", raising=False)
    home.put(plain("scores", scored(0.5), message_id="m"))
    with pytest.raises(click.UsageError, match="no such option: --inptu_files; .*--input_files"):
        run(["--inptu-files", "x"])
    with pytest.raises(ConfigurationError, match="ARIZE_API_KEY and ARIZE_SPACE_ID"):
        run(home.arguments())
    with pytest.raises(ConfigurationError, match="no file matches"):
        run(home.arguments("--no-arize", files=str(home.input / "*.none")))
    with pytest.raises(click.UsageError, match="contradict"):
        run(home.arguments("--no_arize", "--arize_url", "http://localhost:1"))
    with pytest.raises(ConfigurationError, match="no package nowhere"):
        home.package = "nowhere"
        home.run()


def test_keys_are_asked_for_even_where_no_model_is_pushed_yet(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path, "only_untyped", numbers=untyped("int"))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("ARIZE_API_KEY", "ARIZE_SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    home.package = "only_untyped"
    home.put(plain("number", {"request": {"number": 1}, "response": 0}, message_id="m"))
    with pytest.raises(ConfigurationError, match="ARIZE_API_KEY and ARIZE_SPACE_ID"):
        run(home.arguments())
    assert home.run().rows == 1


@pytest.mark.slow
def test_workers_in_other_processes_find_the_extractors(home: Home) -> None:
    """A registry that lived in a module would be empty there."""
    home.put(packed("scores", [scored(0.5), scored(9)]))
    home.put(packed("scores", [scored(0.5)], first=10), name="b")
    home.put(plain("unheard-of", {"request": 1, "response": 2}, message_id="p"), name="c")
    processes = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    with environment(PYTHONPATH=str(PACKAGES)):
        home.run("--no_arize", *processes)
    assert home.row_ids("scores") == ["pub-0:0", "pub-10:0"]
    assert [m.attributes["failure_stage"] for m in home.stored("failures")] == ["validate"]
    assert len(home.stored("parked")) == 1


def test_two_runs_at_once_over_overlapping_input_hold_each_row_once(
    home: Home, tmp_path: Path
) -> None:
    packs = [
        packed("scores", [scored(0.5, prefix=f"{i}-{k}") for k in range(50)], first=i * 50)
        for i in range(6)
    ]
    for number, part in enumerate((packs[:4], packs[2:], packs[1:5])):
        home.put(*part, plain("scores", b"{", message_id="bad"), name=f"part{number}")
    code = "import sys; from support import Home; from pathlib import Path; "
    code += "Home(Path(sys.argv[1])).run(files=sys.argv[2])"
    tests = Path(__file__).parent
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(home.input / f"part{number}.avro")],
            env={**os.environ, "PYTHONPATH": str(tests)},
            stderr=subprocess.PIPE,
        )
        for number in range(3)
    ]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()[-2000:]
    assert home.row_ids("scores") == sorted(f"pub-{i}:0" for i in range(300))
    assert {letter.message_id for letter in home.stored("failures")} == {"bad"}


def test_the_graph_is_the_same_for_one_model_and_for_many(home: Home) -> None:
    def steps(package: str) -> list[str]:
        pipeline = beam.Pipeline()
        options = parse_run(home.arguments("--no_arize"))
        build(pipeline, ["x.avro"], load_extractors(package), options)
        return sorted(
            t.unique_name for t in pipeline.to_runner_api().components.transforms.values()
        )

    one, many = steps("mended"), steps("odd")
    assert one == many
    assert "ExtractRows/Extract" in one
    # A step named by its line number would be another step after the next edit.
    assert not [name for name in one if re.search(r"lambda at (?!core|util)", name)]
