"""Whatever comes in becomes rows, a dead letter with its original bytes, or is set aside."""

import gzip
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import fastavro
import pytest
from support import NOW, Home, at, packed, plain, scored, untyped, write_package

from weighbridge.archive import Message
from weighbridge.wire import unpack

CANARY = "canary-7f3a"
GOOD = scored(0.5)


def failures(home: Home) -> list[tuple[str, str]]:
    """Stage and error class of each dead letter, in the order of their ids."""
    letters = sorted(home.stored("failures"), key=lambda m: m.attributes.get("envelope_id", ""))
    return [(m.attributes["failure_stage"], m.attributes["failure_error"]) for m in letters]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


BAD_PLAIN: Mapping[str, tuple[Message, str]] = {
    "no json": (plain("scores", b"{", message_id="b"), "decode"),
    "array": (plain("scores", [1], message_id="b"), "decode"),
    "random bytes": (plain("scores", bytes(range(256)), message_id="b"), "decode"),
    "empty": (plain("scores", b"", message_id="b"), "decode"),
    "response missing": (plain("scores", {"request": 1}, message_id="b"), "decode"),
    "unknown key": (plain("scores", {**GOOD, "more": 1}, message_id="b"), "decode"),
    "both kinds": (plain("scores", {**GOOD, "actual": 1}, message_id="b"), "decode"),
    "other kind": (plain("scores", GOOD, message_id="b", kind="actual"), "decode"),
    "unknown content": (plain("scores", GOOD, message_id="b", content="x"), "decode"),
    "naive time": (
        plain("scores", GOOD, message_id="b", event_time="2026-01-01T00:00:00"),
        "decode",
    ),
    "no time": (plain("scores", GOOD, message_id="b", at=None), "decode"),
    "status": (plain("scores", GOOD, message_id="b", status="2oo"), "decode"),
    "no model": (plain(None, GOOD, message_id="b"), "route"),
    "path as model": (plain("../../etc", GOOD, message_id="b"), "route"),
    "upper case model": (plain("Scores", GOOD, message_id="b"), "route"),
    "look-alike model": (plain("scоres", GOOD, message_id="b"), "route"),
    "line end in model": (plain("scores\n", GOOD, message_id="b"), "route"),
    "long model": (plain("s" * 64, GOOD, message_id="b"), "route"),
    "shape": (plain("scores", {"request": {}, "response": {}}, message_id="b"), "extract"),
    "unequal": (plain("scores", {**GOOD, "response": {"scores": []}}, message_id="b"), "extract"),
    "text for number": (plain("scores", scored("0.5"), message_id="b"), "validate"),
    "true for number": (plain("scores", scored(True), message_id="b"), "validate"),
    "NaN": (plain("scores", scored(float("nan")), message_id="b"), "validate"),
    "out of range": (plain("scores", scored(0.5, 1.5), message_id="b"), "validate"),
    "null": (plain("scores", scored(None), message_id="b"), "validate"),
    "naive column": (
        plain("scores", scored(0.5, context={"seen_at": "2026-01-01T00:00:00"}), message_id="b"),
        "validate",
    ),
    "same id twice": (
        plain(
            "scores",
            {
                "request": {"cases": [{"id": "x", "amount": 1.0}] * 2},
                "response": {"scores": [0.1, 0.2]},
            },
            message_id="b",
        ),
        "validate",
    ),
    "blank id": (
        plain(
            "scores",
            {"request": {"cases": [{"id": " ", "amount": 1.0}]}, "response": {"scores": [0.1]}},
            message_id="b",
        ),
        "validate",
    ),
    "beyond 64 bits": (
        plain("numbers", {"request": {"number": 2**64}, "response": 1}, message_id="b"),
        "validate",
    ),
    "far future": (
        plain("scores", GOOD, message_id="b", event_time=at(NOW + timedelta(minutes=11))),
        "validate",
    ),
    "objects": (plain("scores-objects", scored(2.0), message_id="b"), "validate"),
    "raises": (plain("raises", {"request": CANARY, "response": 1}, message_id="b"), "extract"),
    "returns a string": (
        plain("returns-string", {"request": 1, "response": 1}, message_id="b"),
        "extract",
    ),
    "returns a row": (
        plain("returns-row", {"request": 1, "response": 1}, message_id="b"),
        "extract",
    ),
    "returns None": (
        plain("returns-none", {"request": 1, "response": 1}, message_id="b"),
        "extract",
    ),
    "foreign objects": (
        plain("foreign", {"request": 1, "response": 1}, message_id="b"),
        "extract",
    ),
    "without end": (plain("endless", {"request": 1, "response": 1}, message_id="b"), "extract"),
    "loops": (plain("loops", {"request": {}, "response": 1}, message_id="b"), "extract"),
    "assigns": (plain("assigns", {"request": 1, "response": 1}, message_id="b"), "extract"),
}


def test_each_bad_message_is_a_dead_letter_of_its_stage_among_good_ones(home: Home) -> None:
    """All at once, each between two good envelopes of its own, as in a real topic."""
    messages: list[Message] = []
    for number, (message, _) in enumerate(BAD_PLAIN.values()):
        messages.append(plain("scores", scored(0.25), message_id=f"good-{number}"))
        messages.append(message._replace(message_id=f"bad-{number:02}"))
    home.put(*messages)
    report = home.run()
    assert home.row_ids("scores") == sorted(f"good-{n}:0" for n in range(len(BAD_PLAIN)))
    letters = {m.message_id: m for m in home.stored("failures")}
    stages = {
        name: letters[f"bad-{number:02}"].attributes["failure_stage"]
        for number, name in enumerate(BAD_PLAIN)
    }
    assert stages == {name: stage for name, (_, stage) in BAD_PLAIN.items()}
    assert sum(report.failures.values()) == len(BAD_PLAIN) == len(letters)
    for number, (message, _) in enumerate(BAD_PLAIN.values()):
        letter = letters[f"bad-{number:02}"]
        assert letter.data == message.data
        assert letter.publish_time == message.publish_time
        assert message.attributes.items() <= letter.attributes.items()
        assert CANARY not in "".join(
            text for name, text in letter.attributes.items() if name.startswith("failure_")
        )


def test_dead_letters_keep_the_id_and_time_that_were_resolved(home: Home) -> None:
    home.put(plain("scores", scored(7.0), message_id="m-1"))
    home.run()
    [letter] = home.stored("failures")
    assert letter.attributes["envelope_id"] == "m-1"
    assert letter.attributes["event_time"] == at(NOW)
    assert {"failure_stage", "failure_error", "failure_message", "failure_fingerprint"} <= set(
        letter.attributes
    )
    assert letter.attributes["failure_message"] == (
        "row 0: column score: Input should be less than or equal to 1"
    )


def test_one_bad_envelope_of_a_pack_becomes_a_pack_of_its_own(home: Home) -> None:
    bodies = [scored(0.1), scored("high", 0.2), scored(0.3)]
    message = packed("scores", bodies, first=40, model_version="9", latency_us=[1, 2, 3])
    home.put(message)
    home.run()
    assert home.row_ids("scores") == ["pub-40:0", "pub-42:0"]
    [letter] = home.stored("failures")
    batch = unpack(letter.attributes, letter.data)
    original = unpack(message.attributes, message.data)
    assert batch["first_sequence"] + batch["sequence_offset"][0] == 41
    assert batch["batch_id"] == "pub-40.1"
    assert letter.attributes["batch_id"] == "pub-40.1"
    assert letter.attributes["envelope_id"] == "pub-41"
    assert (letter.message_id, letter.publish_time) == (message.message_id, message.publish_time)
    for name in ("request", "response", "event_time", "latency_us", "status", "headers"):
        assert batch[name] == [original[name][1]]


def test_dead_letters_can_be_fed_back_and_do_not_multiply(home: Home, tmp_path: Path) -> None:
    home.put(packed("scores", [scored(0.5), scored(7.0)]), plain("scores", b"{", message_id="x"))
    home.run()
    before = home.stored("failures")
    letters = str(home.folder / "failures/**/*.avro")
    report = home.run(files=letters)
    assert report.failures == {"decode": 1, "validate": 1}
    assert home.stored("failures") == before
    # Elsewhere, with an extractor that takes them, the same file gives the missing row.
    other = Home(tmp_path / "other", package="mended")
    other.put(*before)
    other.run()
    assert other.row_ids("scores") == ["pub-1:0"]


def test_truncated_and_random_packs(home: Home) -> None:
    message = packed("scores", [GOOD])
    home.put(
        message._replace(data=message.data[:-3], message_id="cut"),
        message._replace(data=b"\0" * 40, message_id="zeros"),
        message._replace(
            attributes={**message.attributes, "model_id": "numbers"}, message_id="other model"
        ),
        packed("scores", [GOOD, GOOD], first=5, status=[200]),
        packed("scores", [GOOD], first=7, kind="guess"),
        message,
    )
    home.run()
    assert {stage for stage, _ in failures(home)} == {"decode"}
    assert len(failures(home)) == 5
    assert home.row_ids("scores") == ["pub-0:0"]


def test_cut_payloads_and_impossible_times_are_refused_one_by_one(home: Home) -> None:
    home.put(
        packed(
            "scores",
            [GOOD, GOOD, GOOD, GOOD],
            cut=[0, 1, 2, 4],
        ),
        packed("scores", [GOOD, GOOD], first=10, event_time=[2**62, -(2**62)]),
    )
    home.run()
    assert home.row_ids("scores") == ["pub-0:0"]
    assert [stage for stage, _ in failures(home)] == ["decode"] * 5


def test_payloads_at_the_limit_pass_and_above_it_fail(home: Home) -> None:
    sizes = [
        sum(len(json.dumps(GOOD[part], separators=(",", ":"))) for part in ("request", "response"))
    ]
    limit = sizes[0]
    bigger = scored(0.55)
    smaller = {**GOOD, "response": {"scores": [1.0]}}
    smaller["request"] = {"cases": [{"id": "c", "amount": 1.0}]}
    home.put(
        plain("scores", GOOD, message_id="at"),
        plain("scores", bigger, message_id="above"),
        plain("scores", smaller, message_id="below"),
    )
    home.run("--no_arize", f"--max_envelope_bytes={limit}")
    assert home.row_ids("scores") == ["at:0", "below:0"]
    [letter] = home.stored("failures")
    assert letter.attributes["failure_message"] == f"payloads have more than {limit} bytes"


def test_bodies_in_gzip_and_in_nonsense(home: Home) -> None:
    request, response = (json.dumps(GOOD[part]).encode() for part in ("request", "response"))
    zipped = {"request": gzip.compress(request), "response": response}
    bomb = {"request": gzip.compress(b" " * 30_000_000), "response": response}
    home.put(
        packed("scores", [zipped, bomb], request_encoding="gzip"),
        packed("scores", [zipped], first=10, request_encoding="rot13"),
        packed(
            "scores",
            [{"request": b"\x1f\x8bno", "response": response}],
            first=20,
            request_encoding="gzip",
        ),  # fmt: skip
    )
    home.run()
    assert home.row_ids("scores") == ["pub-0:0"]
    assert [stage for stage, _ in failures(home)] == ["decode"] * 3


def test_damaged_files_are_named_and_their_readable_part_is_processed(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    filler = "x" * 300_000
    messages = [
        plain("scores", scored(0.5, context={"filler": filler}), message_id=f"m{i:02}")
        for i in range(12)
    ]
    path = home.put(*messages, name="torn")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    (home.input / "not-avro.avro").write_bytes(b"PAR1 nothing of ours")
    home.put(plain("scores", GOOD, message_id="whole"), name="whole")
    report = home.run()
    found = home.row_ids("scores")
    assert "whole:0" in found
    assert (
        {f"m{i:02}:0" for i in range(4)}
        <= set(found)
        < {f"m{i:02}:0" for i in range(12)} | {"whole:0"}
    )
    assert report.files_damaged == 2
    assert "torn.avro is damaged" in caplog.text
    assert "not-avro.avro is damaged: no Avro file" in caplog.text


def test_archives_of_other_writers(home: Home) -> None:
    """Fields in another order, nulls, and trailing fields missing; every codec of Avro."""
    schema: dict[str, Any] = {
        "type": "record",
        "name": "Any",
        "fields": [
            {"name": "attributes", "type": {"type": "map", "values": "string"}},
            {"name": "publish_time", "type": ["null", "long"]},
            {"name": "data", "type": "bytes"},
        ],
    }
    home.input.mkdir(parents=True)
    codecs = ("null", "deflate", "bzip2", "snappy", "xz", "zstandard")
    for codec in codecs:
        attributes = {"model_id": "scores", "event_time": at(NOW), "envelope_id": codec}
        record = {"attributes": attributes, "publish_time": None, "data": json.dumps(GOOD).encode()}
        with open(home.input / f"{codec}.avro", "wb") as stream:
            fastavro.writer(stream, schema, [record], codec=codec)
    home.run()
    assert home.row_ids("scores") == sorted(f"{codec}:0" for codec in codecs)


def test_a_broken_extractor_module_stops_the_launch_with_file_line_and_remedy(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path, "broken_company", bad=untyped("complex", "price"))
    monkeypatch.syspath_prepend(tmp_path)
    home.package = "broken_company"
    home.put(plain("price", GOOD, message_id="m"))
    with pytest.raises(Exception) as raised:
        home.run()
    assert type(raised.value).__name__ == "InvalidExtractorError"
    assert "bad.py:" in str(raised.value)
    assert "Price.price: no table column for complex; use str, int" in str(raised.value)
    assert not (home.folder / "tables").exists()
