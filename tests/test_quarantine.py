"""One model cannot hurt the others: it is set aside, tried again, and nothing of it is lost."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support import PACKAGES, Home, packed, plain

from extractors import Extractor, ModelSettings, load_extractors
from pipelines import quarantine
from pipelines.cli import _main
from pipelines.quarantine import EVIDENCE, SAMPLE, Quarantine, Ward, records
from pipelines.store import Store
from weighbridge.archive import Message
from weighbridge.wire import unpack

EXTRACTORS = load_extractors("harmful")
GOOD = EXTRACTORS["good", "prediction"]
PROGRAM = """
import pipelines.stuck, schemas.guard
schemas.guard.GRACE_SECONDS = pipelines.stuck.GRACE_SECONDS = 0.5
from pipelines.cli import main
main()
"""


def numbers(model_id: str, *values: Any, first: int = 0) -> Message:
    bodies = [{"request": {"number": value}, "response": 1} for value in values]
    return packed(model_id, bodies, first=first)


def ids_of(messages: list[Message]) -> list[str]:
    found = []
    for message in messages:
        batch = unpack(message.attributes, message.data)
        first = batch["first_sequence"]
        found += [f"{batch['publisher_id']}-{first + n}" for n in batch["sequence_offset"]]
    return sorted(found, key=lambda one: int(one.partition("-")[2]))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, "harmful")


class Clock:
    """A clock that stands still."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def ward(store: Store, clock: Clock, extractor: Extractor = GOOD, judging: bool = True) -> Ward:
    return Quarantine(store, judging, clock).ward(extractor)


def noted(one: Ward, calls: int, failures: int = 0, seconds: float = 0.0) -> int | None:
    one.took(calls, failures, seconds)
    one.judge(True)
    return one.admitted()


def test_a_model_that_is_well_leaves_no_trace(store: Store, clock: Clock) -> None:
    one = ward(store, clock)
    for _ in range(20):
        assert noted(one, EVIDENCE, EVIDENCE // 2, 1.0) is None
        one.save()
    assert not (store.root / quarantine.FOLDER).exists()


@pytest.mark.parametrize(
    ("calls", "failures", "seconds", "set_aside"),
    [
        (EVIDENCE, EVIDENCE, 0.0, True),
        (EVIDENCE, int(EVIDENCE * 0.9), 0.0, False),  # not more than the limit
        (EVIDENCE - 1, EVIDENCE - 1, 0.0, False),
        (EVIDENCE, 0, EVIDENCE * 0.201, True),
        (EVIDENCE, 0, EVIDENCE * 0.2, False),
        (3, 3, 1.5, True),  # three time-outs
        (2, 2, 1.0, False),
        (30, 3, 1.6, False),  # among calls that end at once
    ],
)
def test_its_limits(
    store: Store, clock: Clock, calls: int, failures: int, seconds: float, set_aside: bool
) -> None:
    one = ward(store, clock)
    assert (noted(one, calls, failures, seconds) == 0) is set_aside
    assert one.quarantined is set_aside
    assert [record.table for record in records(store)] == ["good"] * set_aside


def test_settings_move_the_limits(store: Store, clock: Clock) -> None:
    settings = ModelSettings(quarantine_failures=1, quarantine_time=timedelta(seconds=2))
    patient = replace(GOOD, settings=settings)
    one = ward(store, clock, patient)
    assert noted(one, EVIDENCE, EVIDENCE, EVIDENCE * 1.9) is None
    assert noted(one, EVIDENCE, 0, EVIDENCE * 2.1) == 0


def test_rows_that_are_refused_later_count(store: Store, clock: Clock) -> None:
    one = ward(store, clock)
    one.took(EVIDENCE, 0, 0.0)
    one.judge(False)  # not all of them are checked
    assert one.admitted() is None
    one.refused(EVIDENCE)
    one.judge(True)
    assert one.admitted() == 0


def test_little_traffic_is_judged_over_many_processes(store: Store, clock: Clock) -> None:
    for _ in range(2):
        one = ward(store, clock)
        assert noted(one, 1, 1, 0.5) is None
        one.save()
    assert noted(ward(store, clock), 1, 1, 0.5) == 0
    assert ward(store, clock).quarantined


def test_trouble_that_passes_is_forgotten(store: Store, clock: Clock) -> None:
    one = ward(store, clock)
    noted(one, 1, 1)
    one.save()
    assert list(records(store))
    one = ward(store, clock)
    noted(one, 10)
    one.save()
    assert not list(records(store))


def test_a_sample_lets_it_back_in_or_doubles_the_wait(store: Store, clock: Clock) -> None:
    assert noted(ward(store, clock), EVIDENCE, EVIDENCE) == 0
    for wait in (300, 600, 1200):
        clock.now += wait - 1
        assert ward(store, clock).admitted() == 0
        clock.now += 1
        one = ward(store, clock)
        assert one.admitted() == SAMPLE
        assert noted(one, 15, 15) == SAMPLE - 15
        assert noted(one, 5, 5) == 0
    clock.now += 2400
    one = ward(store, clock)
    assert noted(one, SAMPLE, 1) is None
    assert not list(records(store))


def test_one_time_out_ends_a_sample(store: Store, clock: Clock) -> None:
    noted(ward(store, clock), 3, 3, 1.5)
    clock.now += 300
    assert noted(ward(store, clock), 1, 1, 0.5) == 0


def test_another_version_is_another_chance(store: Store, clock: Clock) -> None:
    noted(ward(store, clock), EVIDENCE, EVIDENCE)
    assert ward(store, clock, replace(GOOD, version="mended")).admitted() is None


def test_bounded_runs_ask_only_for_what_took_down_a_process(store: Store, clock: Clock) -> None:
    noted(ward(store, clock), EVIDENCE, EVIDENCE)
    assert ward(store, clock, judging=False).admitted() is None
    quarantine.set_aside_for_good(store, GOOD.table, GOOD.version, "did not return")
    clock.now += 1e9
    assert ward(store, clock, judging=False).admitted() == 0
    assert ward(store, clock, judging=False).admitted() == 0


def test_a_damaged_record_counts_as_none(store: Store, clock: Clock) -> None:
    for text in (b"", b"[]", b"{}", b'{"table": 1, "more": 2}'):
        store.write("quarantine/good.json", text)
        assert ward(store, clock).admitted() is None


@pytest.mark.slow
def test_each_way_to_do_harm_is_set_aside_and_nothing_is_lost(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    harmful = ("loops", "endless", "raises", "invalid")
    for number in range(3):
        first = number * 1000
        home.put(
            *(numbers(name, *range(200), first=first) for name in (*harmful, "good")),
            name=str(number),
        )
        report = home.run("--no_arize", "--quarantine")
        (home.input / f"{number}.avro").rename(home.input / f"{number}.done")
    named = [re.match(r"(\w+) is quarantined", line) for line in caplog.messages]
    assert sorted(match[1] for match in named if match) == sorted(harmful)
    assert len(home.rows("good")) == 600
    letters, parked = home.stored("failures"), home.stored("parked")
    assert {message.attributes["parked_cause"] for message in parked} == {"quarantine"}
    for name in harmful:
        failed = ids_of([one for one in letters if one.attributes["model_id"] == name])
        set_aside = ids_of([one for one in parked if one.attributes["model_id"] == name])
        everything = [f"pub-{first + i}" for first in (0, 1000, 2000) for i in range(200)]
        assert sorted(failed + set_aside) == sorted(everything)
        [counted] = [item for item in report.tables if item.table == name]
        assert counted.quarantined == counted.envelopes == 200
        assert len(failed) == {"loops": 3}.get(name, len(failed))
        assert len(failed) <= 200
    # Told to, a run takes them all; without those that take half a second each.
    quick = [message for message in parked if message.attributes["model_id"] != "loops"]
    report = home.run("--no_arize", files=str(home.put(*quick, name="quick")))
    assert sum(item.envelopes for item in report.tables) > 1000
    assert sum(item.quarantined for item in report.tables) == 0


def test_what_was_parked_in_the_middle_of_a_message_comes_in_later(home: Home) -> None:
    """Half a message was extracted when its model was set aside."""
    values = [1] * 4 + [1.0] * 96
    home.put(numbers("loops", *values))
    home.run("--no_arize", "--quarantine")
    [parked] = home.stored("parked")
    assert parked.attributes["batch_id"] == "pub-0.3-99"
    assert ids_of([parked]) == [f"pub-{i}" for i in range(3, 100)]
    files = str(home.folder / "parked/**/*.avro")
    home.run("--no_arize", files=files)
    assert home.row_ids("loops") == sorted(f"pub-{i}:0" for i in range(4, 100))
    assert ids_of(home.stored("failures")) == [f"pub-{i}" for i in range(4)]
    report = home.run("--no_arize", files=files)
    assert report.rows == 0


def test_a_plain_message_keeps_its_id_when_it_is_parked(home: Home) -> None:
    store = Store(home.folder)
    extractor = EXTRACTORS["good", "prediction"]
    quarantine.set_aside_for_good(store, "good", extractor.version, "did not return")
    message = plain("good", {"request": {"number": 1}, "response": 1}, message_id="", team="blue")
    home.put(message)
    home.run("--no_arize")
    [parked] = home.stored("parked")
    assert parked.data == message.data
    (home.folder / "quarantine/good.json").unlink()
    home.run("--no_arize", files=str(home.folder / "parked/**/*.avro"))
    home.run("--no_arize")
    assert len(home.rows("good")) == 1


def test_a_row_beyond_its_limit_is_a_dead_letter(home: Home) -> None:
    home.put(numbers("large", 10, 3000, 20))
    home.run("--no_arize")
    assert home.row_ids("large") == ["pub-0:0", "pub-2:0"]
    [letter] = home.stored("failures")
    said = "row 0: more than 2000 bytes, ModelSettings.max_row_bytes"
    assert letter.attributes["failure_message"] == said
    assert ids_of([letter]) == ["pub-1"]


@pytest.mark.slow
def test_a_call_that_takes_ever_more_memory_is_ended(home: Home) -> None:
    home.put(numbers("hungry", 1), numbers("good", 1))
    home.run("--no_arize")
    assert len(home.rows("good")) == 1
    [letter] = home.stored("failures")
    assert letter.attributes["failure_error"] == "MemoryLimitReached"


@pytest.mark.slow
@pytest.mark.parametrize("model_id", ["sleeps", "stuck"])
@pytest.mark.parametrize("way", [(), ("--workers", "2"), ("--follow", "--exit_when_idle", "1s")])
def test_code_that_never_returns_takes_down_its_process_once(
    home: Home, model_id: str, way: tuple[str, ...]
) -> None:
    home.put(numbers("good", 1), numbers(model_id, 1, 2), numbers("good", 3, first=5))
    home.put(numbers("good", 4, first=6), name="b")
    command = [sys.executable, "-c", PROGRAM, "run", *home.arguments("--no_arize", *way)]
    for _ in range(2):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=home.folder.parent,
            env={"PYTHONPATH": str(PACKAGES), "PATH": "/usr/bin:/bin", "COLUMNS": "120"},
        )
        assert done.returncode == 0, done.stderr
        assert home.row_ids("good") == ["pub-0:0", "pub-5:0", "pub-6:0"]
        assert ids_of(home.stored("parked")) == ["pub-0", "pub-1"]
        if _ == 0:
            assert done.stderr.count("It took down its process") == 1
            assert f"{model_id} did not return within" in done.stderr
        assert not list((home.folder / "quarantine/.at_work").iterdir())
    record = json.loads((home.folder / f"quarantine/{model_id}.json").read_text())
    assert record["probe_at"] is None


def test_a_model_is_let_back_in_by_hand(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--home", str(home.folder), "--extractors_package", home.package]

    def models(*words: str) -> str:
        assert _main(["models", *words, *own]) == 0
        return " ".join(capsys.readouterr().out.split())

    home.put(numbers("raises", *range(EVIDENCE), first=0), name="a")
    home.run("--no_arize", "--quarantine")
    home.put(numbers("raises", 0.5, first=EVIDENCE), name="b")
    last = str(home.input / "b.avro")
    home.run("--no_arize", "--quarantine", files=last)
    said = models("--parked")
    assert re.search("raises, quarantined since .*: fails on more than 0.9 of its envelopes", said)
    assert "a sample is tried from" in said and "raises 1 " in said
    assert models("--release", "good") == "good is not quarantined"
    assert "weighbridge replay --parked --model raises" in models("--release", "raises")
    assert list(records(Store(home.folder))) == []
    assert "quarantined" not in models("--parked")
    home.run("--no_arize", "--quarantine", files=last)
    assert home.row_ids("raises") == [f"pub-{EVIDENCE}:0"]
    assert _main(["models", "--release", "nobody", *own]) == 2
