"""The ledger over real tables: what publishers served against what became of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.table.snapshots import Operation
from support import NOW, Home, heartbeat, micros, packed, plain, scored

from pipelines.cli import _main
from pipelines.maintain.live import live_files
from pipelines.maintain.upkeep import Upkeep
from pipelines.snapshots import Change, add_snapshot
from pipelines.tables import Tables
from weighbridge import EnvelopePublisher
from weighbridge.archive import Message, read_archive, write_archive

NOTHING = {"sampled_out": 0, "dropped": {}, "spooled": 0}
MINUTE = 60_000_000


def counted(model_id: str, served: int, **more: Any) -> dict[str, Any]:
    lost = sum(more.get("dropped", {}).values()) + more.get("sampled_out", 0)
    kept = served - lost - more.get("spooled", 0)
    return {**NOTHING, "model_id": model_id, "served": served, "published": kept, **more}


def ledger(home: Home, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    capsys.readouterr()
    arguments = ["ledger", "--home", str(home.folder), "--extractors_package", home.package]
    code = _main([*arguments, "--grace", "0s", *more])
    return code, " ".join(capsys.readouterr().out.split())


def answer(home: Home, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    arguments = ["ledger", "--home", str(home.folder), "--extractors_package", home.package]
    assert _main([*arguments, "--json", "--grace", "0s", *more]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def sums(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of all lines."""
    found: dict[str, Any] = {}
    for line in lines:
        for name, value in line.items():
            if isinstance(value, dict):
                into = found.setdefault(name, {})
                for why, count in value.items():
                    into[why] = into.get(why, 0) + count
            elif isinstance(value, int):
                found[name] = found.get(name, 0) + value
    return {name: value for name, value in found.items() if value and name != "later"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def captured(home: Home, **more: Any) -> EnvelopePublisher:
    """A service's traffic of all fates, in the input folder: 12 envelopes."""
    publisher = EnvelopePublisher(home.input, sample={"quiet": 0, "*": 1}, **more)
    good = json.dumps({"cases": [{"id": "c-1", "amount": 1.5}]}).encode()
    answer = b'{"scores": [0.5]}'
    for number in range(5):
        request = json.dumps({"cases": [{"id": f"c-{number}", "amount": 1.5}]}).encode()
        publisher.capture("scores", request, answer)
    publisher.capture("scores", good, b'{"scores": [7]}')  # validate
    publisher.capture("scores", good, b"{}")  # extract
    publisher.capture("scores", good, answer, status=500)  # skipped
    publisher.capture("nobody", good, answer)  # parked
    publisher.capture("quiet", good, answer)  # sampled out
    publisher.capture("scores", "text", answer)  # type: ignore[arg-type]  # dropped: refused
    publisher.capture("No Model!", good, answer)  # a message that nobody can route
    publisher.close()
    return publisher


def test_each_envelope_is_accounted_for(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    captured(home)
    home.run()
    found = answer(home, capsys)
    assert sums(found["lines"]) == {
        "served": 12,
        "sampled_out": 1,
        "dropped": {"refused": 1},
        "committed": 5,
        "dead_letters": {"validate": 1, "extract": 1, "route": 1},
        "parked": 1,
        "skipped": {"status": 1},
    }
    [publisher] = found["publishers"]
    assert (publisher["state"], publisher["missing"]) == ("closed", 0)
    assert found["costs"][""]["cpu_us"] > 0
    assert found["costs"][""]["envelopes"] == 7
    assert ledger(home, capsys, "--check") == (0, "balances: 1 publisher, 12 envelopes served")
    _, young = ledger(home, capsys, "--check", "--grace", "1d")
    assert young.endswith("0 envelopes served; 1 within the time of --grace, not judged yet")


def test_twice_changes_nothing(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    captured(home)
    home.run()
    before = answer(home, capsys)["lines"]
    home.run()
    assert answer(home, capsys)["lines"] == before


def replay(home: Home, *words: str) -> None:
    own = ["--home", str(home.folder), "--extractors_package", home.package, "--no_arize"]
    assert _main(["replay", *words, *own]) == 0


@pytest.mark.slow
def test_it_balances_after_a_replay_of_dead_letters(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    captured(home)
    home.run()
    before = sums(answer(home, capsys)["lines"])
    home.package = "mended"
    replay(home, "--failures")
    assert "failed for the same cause again" in capsys.readouterr().out
    after = {
        **before,
        "committed": 6,  # the score that was too high
        "dead_letters": {"extract": 1, "route": 1},
    }
    assert sums(answer(home, capsys)["lines"]) == after
    assert ledger(home, capsys, "--check") == (0, "balances: 1 publisher, 12 envelopes served")
    replay(home, "--failures")
    assert sums(answer(home, capsys)["lines"]) == after
    assert ledger(home, capsys, "--check")[0] == 0


def test_it_balances_after_a_replay_of_parked_messages(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    captured(home)
    home.package = "extractors"  # which knows none of these models
    home.run()
    assert sums(answer(home, capsys)["lines"]) == {
        "served": 12,
        "sampled_out": 1,
        "dropped": {"refused": 1},
        "dead_letters": {"route": 1},
        "parked": 9,
    }
    assert ledger(home, capsys, "--check")[0] == 0
    home.package = "odd"
    replay(home, "--parked")
    assert sums(answer(home, capsys)["lines"]) == {
        "served": 12,
        "sampled_out": 1,
        "dropped": {"refused": 1},
        "committed": 5,
        "dead_letters": {"validate": 1, "extract": 1, "route": 1},
        "parked": 1,
        "skipped": {"status": 1},
    }
    assert ledger(home, capsys, "--check") == (0, "balances: 1 publisher, 12 envelopes served")


def test_it_balances_after_rows_were_erased(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    captured(home)
    home.put(
        packed("scores", [scored(0.5, 0.7), scored(0.5, 0.7, prefix="d")]),
        heartbeat("pub", [counted("scores", 2)], sequence=2),
    )
    home.run()
    before = sums(answer(home, capsys)["lines"])
    own = ["--home", str(home.folder), "--extractors_package", home.package]
    # Two envelopes of one row, one of which has another case that stays.
    meant = "case_id in ('c-1', 'c-3')"
    assert _main(["tables", "erase", "--model", "scores", "--where", meant, *own]) == 0
    after = {**before, "committed": 5, "skipped": {"status": 1, "erased": 2}}
    for _ in range(2):
        assert sums(answer(home, capsys)["lines"]) == after
        code, text = ledger(home, capsys, "--check", "--model", "scores")
        assert (code, "balances: 2 publishers, 14 envelopes served" in text) == (0, True)
        home.run()  # old input brings nothing back


def test_rows_that_compaction_removes_are_told_and_not_missing(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    time = NOW.replace(minute=0, second=0) - timedelta(hours=2)
    home.put(
        packed("scores", [scored(0.5, 0.7), scored(0.25, prefix="d")], at=time),
        heartbeat("pub", [counted("scores", 2)], sequence=2),
    )
    home.run()
    before = answer(home, capsys)
    assert before["duplicate_rows_removed"] == []
    # Another program's writer, which does not ask what the table has.
    tables = Tables(home.folder)
    [file] = live_files(tables.load("models.scores"))
    rows = pq.read_table(file.location.removeprefix("file://"), partitioning=None)
    copy = Path(file.location.removeprefix("file://")).with_name("copy.parquet")
    pq.write_table(rows.slice(0, 2), copy)
    change = Change(Operation.APPEND, [f"file://{copy}"])
    add_snapshot(tables.load("models.scores"), change)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert Upkeep(tables, {}, lambda: tomorrow).run("models.scores").duplicates == 2
    after = answer(home, capsys)
    assert after["duplicate_rows_removed"] == [
        {"model": "scores", "hour": time.isoformat(), "rows": 2}
    ]
    assert after["lines"] == before["lines"]
    assert answer(home, capsys, "--model", "x")["duplicate_rows_removed"] == []
    assert "duplicate rows removed: 2 scores" in ledger(home, capsys)[1]
    assert ledger(home, capsys, "--check")[0] == 0


def test_a_message_that_is_gone_is_named(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    publisher = EnvelopePublisher(home.input, linger=0.01)
    ids = [publisher.capture("scores", *_bodies(number)) for number in range(30)]
    publisher.close()
    gone = _without(home.input, lambda message: message.attributes.get("first_sequence") == "0")
    assert gone
    home.run()
    code, text = ledger(home, capsys, "--check")
    assert code == 3
    assert f"publisher {publisher.publisher_id}: served 30, {gone} missing" in text
    assert f"sequence 0-{gone - 1};" in text
    assert "published and not yet arrived" in text
    assert ids[0] not in [row["envelope_id"] for row in home.rows("scores")]
    # Nothing is wrong as long as it may be on its way.
    assert _main(["ledger", "--home", str(home.folder), "--check", "--grace", "1h"]) == 0
    assert ledger(home, capsys, "--check", "--model", "other")[0] == 0


def test_parked_envelopes_balance(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.put(
        packed("halves", [{"request": {"id": 1}}, {"request": {"id": 2}}]),
        heartbeat("pub", [counted("halves", 2)], sequence=2),
    )
    home.run()
    assert sums(answer(home, capsys)["lines"]) == {"served": 2, "parked": 2}
    assert ledger(home, capsys, "--check")[0] == 0


def test_a_table_comes_before_a_dead_letter(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.put(packed("scores", [scored(7)]), name="a")
    home.put(packed("scores", [scored(0.5)]), name="b")
    home.put(heartbeat("pub", [counted("scores", 1)], sequence=1), name="c")
    home.run()
    assert sums(answer(home, capsys)["lines"]) == {"served": 1, "committed": 1}


def test_a_killed_publisher_has_lost_what_was_in_memory(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    now = micros(NOW)
    home.put(
        packed("scores", [scored(0.5, prefix=f"a{n}") for n in range(8)]),
        heartbeat("pub", [counted("scores", 6)], sequence=6, time=now - 3 * MINUTE),
        heartbeat(
            "pub", [counted("scores", 12, published=8)], sequence=12, time=now - 2 * MINUTE
        )._replace(message_id="h2"),
    )
    home.run()
    code, text = ledger(home, capsys, "--check")
    assert code == 3
    assert "pub: served 12, 4 missing (4 of scores): sequence 8-11;" in text
    assert "up to 4 in its memory when it was killed" in text
    assert "lost since its last heartbeat: between 0 and about 6" in text


def test_what_lies_in_a_spool_is_said(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    counts = counted("scores", 3, spooled=2)
    home.put(packed("scores", [scored(0.5)]), heartbeat("pub", [counts], sequence=3))
    home.run()
    code, text = ledger(home, capsys, "--check")
    assert (code, "up to 2 in the spool that it left" in text) == (3, True)


def test_ids_of_nobody_are_apart(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.put(
        plain("scores", scored(0.5), message_id="m1", envelope_id="upload-5"),
        plain("scores", scored(0.5), message_id="m2", envelope_id="pub-07"),
        packed("scores", [scored(0.5)]),
        heartbeat("pub", [counted("scores", 1)], sequence=1),
    )
    home.run()
    found = answer(home, capsys)
    assert sums(found["lines"]) == {"served": 1, "committed": 1}
    assert sums(found["without_heartbeats"]) == {"committed": 2}
    code, text = ledger(home, capsys)
    assert (code, "Without heartbeats" in text) == (0, True)


def test_a_time_begins_with_the_heartbeat_before(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    now = micros(NOW)
    for number, minutes in enumerate((90, 5)):
        message = packed("scores", [scored(0.5)] * 2, first=2 * number)
        beat = heartbeat(
            "pub",
            [counted("scores", 2 * number + 2)],
            sequence=2 * number + 2,
            time=now - minutes * MINUTE + 1,
        )
        published = now - minutes * MINUTE
        home.put(
            message._replace(publish_time=published),
            beat._replace(message_id=f"h{number}", publish_time=published + 1),
            name=str(number),
        )
    home.run()
    assert sums(answer(home, capsys)["lines"])["served"] == 4
    assert sums(answer(home, capsys, "--since", "1h")["lines"]) == {"served": 2, "committed": 2}
    assert ledger(home, capsys, "--check", "--since", "1h")[0] == 0


def test_it_reads_as_tables(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    captured(home)
    home.run()
    for by in ("model", "publisher", "hour"):
        code, text = ledger(home, capsys, "--by", by)
        assert code == 0
        assert "dropped: 1 refused" in text and "skipped: 1 status" in text
        assert "(nobody)" in text and "last event" in text


def test_without_tables_there_is_a_remedy(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["ledger", "--home", str(home.folder)]) == 2
    assert "holds no tables yet" in capsys.readouterr().err


def _bodies(number: int) -> tuple[bytes, bytes]:
    body = scored(0.5, prefix=f"n{number}")
    return json.dumps(body["request"]).encode(), json.dumps(body["response"]).encode()


def _without(folder: Path, is_gone: Any) -> int:
    """Remove messages from archive files; how many envelopes they held."""
    count = 0
    for path in folder.glob("*.avro"):
        with open(path, "rb") as stream:
            messages: list[Message] = list(read_archive(stream))
        for message in filter(is_gone, messages):
            count += int(message.attributes["envelope_count"])
        write_archive(path, [message for message in messages if not is_gone(message)])
    return count
