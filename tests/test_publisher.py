import inspect
import itertools
import json
import logging
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Emulator, eventually
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge import EnvelopePublisher, log
from weighbridge.archive import Message, read_archive
from weighbridge.captured import NEVER_CAPTURED
from weighbridge.counts import CAUSES
from weighbridge.publisher import ENVELOPE_BYTES, MAX_ENVELOPE_BYTES
from weighbridge.wire import ARRAYS, HEARTBEAT_CONTENT, unpack
from weighbridge.worker import PACK_BYTES, PACK_ENVELOPES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def log_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Each test sees its own lines, although there is one a minute only."""
    monkeypatch.setattr(log, "_logged", {})
    caplog.set_level(logging.WARNING, "weighbridge")


def stored(folder: Path) -> list[Message]:
    """Messages with envelopes, without heartbeats."""
    found: list[Message] = []
    for path in sorted(folder.glob("*.avro")):
        with open(path, "rb") as stream:
            found += read_archive(stream)
    return [one for one in found if one.attributes["content"] != HEARTBEAT_CONTENT]


def told(publisher: EnvelopePublisher) -> dict[str, Any]:
    """The counts that are not 0."""
    return {k: v for k, v in publisher.stats().items() if v and k != "models"}


def envelopes(messages: list[Message]) -> dict[str, dict[str, Any]]:
    """What each envelope says, by its id."""
    found: dict[str, dict[str, Any]] = {}
    for message in messages:
        batch = unpack(message.attributes, message.data)
        once = {name: value for name, value in batch.items() if name not in ARRAYS}
        for values in zip(*(batch[name] for name in ARRAYS)):
            each = dict(zip(ARRAYS, values))
            envelope_id = (
                f"{batch['publisher_id']}-{batch['first_sequence'] + each['sequence_offset']}"
            )
            assert envelope_id not in found
            found[envelope_id] = {**once, **each}
    return found


def requests(folder: Path) -> list[bytes]:
    return sorted(one["request"] for one in envelopes(stored(folder)).values())


def test_what_is_captured_is_read_back(tmp_path: Path) -> None:
    kept = ["Content-Type", "x-tenant", "content-encoding"]
    publisher = EnvelopePublisher(str(tmp_path / "new" / "folder"), headers=kept)
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    full = publisher.capture(
        "flights",
        b'{"x": 1}',
        b'{"y": 2}',
        context=b"",
        model_version="7",
        status=503,
        latency_us=1500,
        event_time=moment,
        headers={"Content-Type": "application/json; charset=utf-8", "X-Tenant": "é"},
        attributes={"region": "eu"},
        sampling_key="tenant",
    )
    before = time.time_ns() // 1000
    bare = publisher.capture("flights", b"", b"\xff")
    actual = publisher.capture_actual("flights", b"true", headers={"Content-Encoding": "gzip"})
    after = time.time_ns() // 1000
    publisher.close()
    assert told(publisher) == {"served": 3, "published": 3}

    found = envelopes(stored(tmp_path / "new" / "folder"))
    assert set(found) == {full, bare, actual}
    publisher_id = full.rpartition("-")[0]
    json_type = "application/json"
    assert found[full] == {
        "batch_id": full,
        "publisher_id": publisher_id,
        "model_id": "flights",
        "model_version": "7",
        "kind": "prediction",
        "first_sequence": 0,
        "request_type": "application/json; charset=utf-8",
        "request_encoding": "",
        "response_type": json_type,
        "response_encoding": "",
        "context_type": json_type,
        "context_encoding": "",
        "sequence_offset": 0,
        "event_time": (moment - EPOCH) // timedelta(microseconds=1),
        "status": 503,
        "latency_us": 1500,
        "headers": '{"content-type":"application/json; charset=utf-8","x-tenant":"é"}'.encode(),
        "attributes": b'{"region":"eu"}',
        "request": b'{"x": 1}',
        "response": b'{"y": 2}',
        "context": b"",
        "cut": 0,
    }
    assert before <= found[bare]["event_time"] <= after
    assert found[bare]["status"] == 200
    assert found[bare]["context"] is None
    assert (found[bare]["request"], found[bare]["response"]) == (b"", b"\xff")
    assert found[bare]["headers"] == found[bare]["attributes"] == b"{}"
    late = found[actual]
    assert (late["kind"], late["request"], late["request_encoding"]) == ("actual", b"true", "gzip")
    assert late["response"] is late["status"] is late["context"] is None


def test_files_hold_messages_as_a_topic_would_deliver_them(tmp_path: Path) -> None:
    before = time.time_ns() // 1000
    publisher = EnvelopePublisher(tmp_path)
    first = publisher.capture("flights", b"1", b"2")
    publisher.close()
    [message] = stored(tmp_path)
    assert message.message_id == message.attributes["batch_id"] == first
    assert message.publish_time is not None
    assert before <= message.publish_time <= time.time_ns() // 1000
    assert message.attributes == {
        "content": "weighbridge.batch.v1",
        "encoding": "avro+zstd",
        "model_id": "flights",
        "batch_id": first,
        "publisher_id": first.rpartition("-")[0],
        "first_sequence": "0",
        "envelope_count": "1",
    }
    assert [path.suffix for path in tmp_path.iterdir()] == [".avro"] * 2  # one with a heartbeat


def test_a_pack_holds_one_value_of_what_is_written_once(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    models, versions = ["a", "b"], ["1", "2"]
    types = [{}, {"Content-Type": "text/x"}, {"content-encoding": "gzip", "x": "y"}]
    expected = {}
    for model, version, headers in list(itertools.product(models, versions, types)) * 3:
        for capture in (publisher.capture, publisher.capture_actual):
            bodies = [b"1"] if capture == publisher.capture_actual else [b"1", b"2"]
            kind = "actual" if capture == publisher.capture_actual else "prediction"
            envelope_id = capture(model, *bodies, model_version=version, headers=headers)  # type: ignore[operator]
            content_type = headers.get("Content-Type", "application/json")
            encoding = headers.get("content-encoding", "")
            expected[envelope_id] = (model, version, kind, content_type, encoding)
    publisher.close()
    once = ("model_id", "model_version", "kind", "request_type", "request_encoding")
    found = envelopes(stored(tmp_path))
    assert {key: tuple(one[name] for name in once) for key, one in found.items()} == expected
    assert 24 <= len(stored(tmp_path)) < len(expected)


def test_packs_are_many_envelopes_and_bounded_in_number(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    for _ in range(3 * PACK_ENVELOPES + 1):
        publisher.capture("flights", b"1", b"2")
    publisher.close()
    counts = [int(message.attributes["envelope_count"]) for message in stored(tmp_path)]
    assert sum(counts) == 3 * PACK_ENVELOPES + 1
    assert max(counts) <= PACK_ENVELOPES
    assert len(counts) <= 8


def test_packs_are_bounded_in_bytes(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path), max_body_bytes=4 << 20)
    sizes = [PACK_BYTES // 2, PACK_BYTES // 3, 10, 3 * PACK_BYTES, 10, PACK_BYTES // 2 + 1] * 2
    for size in sizes:
        publisher.capture("flights", bytes(size), b"")
    publisher.close()
    packs = [unpack(message.attributes, message.data) for message in stored(tmp_path)]
    for pack in packs:
        assert len(pack["request"]) == 1 or sum(map(len, pack["request"])) <= PACK_BYTES
    assert sorted(len(body) for pack in packs for body in pack["request"]) == sorted(sizes)


def test_packs_are_bounded_by_what_contexts_turn_out_to_be(tmp_path: Path) -> None:
    """Else a few hundred of them make a message that nobody takes."""
    publisher = EnvelopePublisher(str(tmp_path))
    context = {"text": "x" * (PACK_BYTES // 10)}
    for _ in range(40):
        publisher.capture("flights", b"1", b"2", context=context)
    assert dropped(publisher) == {}
    packs = [unpack(message.attributes, message.data) for message in stored(tmp_path)]
    assert sum(len(pack["context"]) for pack in packs) == 40
    for pack in packs:
        assert sum(map(len, pack["context"])) <= PACK_BYTES


def dropped(publisher: EnvelopePublisher) -> dict[str, int]:
    """By cause, after everything else was published."""
    publisher.close()
    stats = publisher.stats()
    settled = stats["published"] + stats["spooled"] + stats["sampled_out"]
    assert stats["served"] == settled + sum(stats["dropped"].values())
    assert stats["queued"] == 0
    return stats["dropped"]


def test_full_by_number(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path), max_queued=0)
    ids = {publisher.capture("flights", b"1", b"2") for _ in range(9)}
    assert len(ids) == 9
    assert dropped(publisher) == {"queue_full": 9}


@pytest.mark.parametrize(
    "more",
    [{"context": b"1"}, {"headers": {"a": ""}}, {"attributes": {"": "b"}}, {"model_version": "7"}],
)
def test_full_by_bytes_whatever_they_are(tmp_path: Path, more: dict[str, Any]) -> None:
    publisher = EnvelopePublisher(
        str(tmp_path), max_queued_bytes=10 + ENVELOPE_BYTES, headers=["a"]
    )
    publisher.capture("abc", b"12345", b"12345", **more)
    publisher.capture("abc", b"12345", b"12345")
    assert dropped(publisher) == {"queue_full": 1}
    assert requests(tmp_path) == [b"12345"]


def test_too_large(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path), max_body_bytes=16 << 20)
    at = MAX_ENVELOPE_BYTES - ENVELOPE_BYTES - 2
    publisher.capture("abc", b"1", bytes(at), context=b"2")
    publisher.capture("abc", b"1", bytes(at), context=b"22")
    publisher.capture_actual("abc", bytes(at + 3))
    assert dropped(publisher) == {"too_large": 2}
    assert requests(tmp_path) == [b"1"]


def test_closed(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    one = publisher.capture("flights", b"1", b"2")
    publisher.close()
    two = publisher.capture("flights", b"1", b"2")
    assert publisher.capture_actual("flights", b"1") not in (one, two)
    assert dropped(publisher) == {"closed": 2}
    assert list(envelopes(stored(tmp_path))) == [one]


def test_closing_what_was_never_used(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    assert dropped(publisher) == {}
    assert publisher.stats()["served"] == 0
    assert list(tmp_path.iterdir()) == []


class Raises:
    """Something that fails whatever is done with it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("canary")

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("canary")

    __bool__ = __len__ = __iter__ = __getitem__ = __str__ = __sub__ = __rsub__ = _raise
    __bytes__ = __buffer__ = __index__ = __int__ = __lt__ = __contains__ = _raise


BAD: dict[str, dict[str, Any]] = {
    "str as request": {"request": "canary"},
    "str as response": {"response": "canary"},
    "dict as request": {"request": {"canary": 1}},
    "list as request": {"request": [1, 2]},
    "None as model": {"model_id": None},
    "list as model": {"model_id": ["canary"]},
    "bytes as model": {"model_id": b"canary"},
    "half a surrogate pair as model": {"model_id": "\ud800"},
    "int as version": {"model_version": 3},
    "str as status": {"status": "canary"},
    "bool as status": {"status": True},
    "huge status": {"status": 2**31},
    "float as latency": {"latency_us": 1.5},
    "huge latency": {"latency_us": 2**63},
    "naive time": {"event_time": datetime(2026, 1, 1)},
    "date as time": {"event_time": date(2026, 1, 1)},
    "str as time": {"event_time": "2026-01-01T00:00:00Z"},
    "int as time": {"event_time": 1_700_000_000},
    "str as headers": {"headers": "canary"},
    "number as header": {"headers": {"user-agent": 1}},
    "number as header name": {"headers": {1: "x"}},
    "list as header": {"headers": {"content-type": ["canary"]}},
    "half a surrogate pair as header": {"headers": {"user-agent": "\ud800"}},
    "number as attribute": {"attributes": {"x": 1.5}},
    "nested attribute": {"attributes": {"x": {}}},
    "set as attributes": {"attributes": {"canary"}},
    **{f"fails: {name}": {name: Raises()} for name in ("request", "headers", "status")},
    **{f"fails, too: {name}": {name: Raises()} for name in ("model_id", "event_time")},
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_cost_only_their_own_envelope(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    good = {"model_id": "flights", "request": b"1", "response": b"2"}
    ids = [publisher.capture(**good) for _ in range(3)]  # type: ignore[arg-type]
    bad = publisher.capture(**{**good, **BAD[case]})
    ids += [publisher.capture(**good) for _ in range(3)]  # type: ignore[arg-type]
    causes = dropped(publisher)
    assert causes in ({"refused": 1}, {"encode": 1})
    assert set(envelopes(stored(tmp_path))) == set(ids)
    assert bad not in ids
    assert caplog.messages[0].startswith("weighbridge could not ")
    assert caplog.messages[-1].startswith("weighbridge dropped 1 envelopes")
    assert "canary" not in caplog.text


def test_a_naive_time_is_refused_as_its_zone_would_be_a_guess(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    publisher.capture("flights", b"1", b"2", event_time=datetime(2026, 1, 1))
    publisher.capture_actual("flights", b"1", event_time=datetime(2026, 1, 1))
    assert dropped(publisher) == {"refused": 2}


def test_one_bad_envelope_leaves_the_pack_large(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    for number in range(300):
        publisher.capture("flights", b"1", b"2", status="bad" if number == 99 else 200)  # type: ignore[arg-type]
    assert dropped(publisher) == {"encode": 1}
    assert len(envelopes(stored(tmp_path))) == 299
    assert len(stored(tmp_path)) < 40


def test_bytes_like_bodies(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    changing = bytearray(b"before")
    publisher.capture("flights", changing, memoryview(b"view"), context=bytearray(b"c"))  # type: ignore[arg-type]
    changing[:] = b"behind"
    assert dropped(publisher) == {}
    [found] = envelopes(stored(tmp_path)).values()
    assert (found["request"], found["response"], found["context"]) == (b"before", b"view", b"c")


def test_an_absent_response_is_not_an_empty_one(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    publisher.capture("flights", b"1", None, status=500)  # type: ignore[arg-type]
    assert dropped(publisher) == {}
    [found] = envelopes(stored(tmp_path)).values()
    assert found["response"] is None


def test_what_the_service_changes_afterwards_is_not_seen(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path), headers=["x"])
    shared = {"x": "before"}
    publisher.capture("flights", b"1", b"2", headers=shared, attributes=shared)
    shared["x"] = "after"
    publisher.close()
    [found] = envelopes(stored(tmp_path)).values()
    assert found["headers"] == found["attributes"] == b'{"x":"before"}'


CREDENTIALS = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-auth-token",
    "x-amz-security-token",
]


def test_credentials_are_never_captured(tmp_path: Path) -> None:
    assert set(CREDENTIALS) == NEVER_CAPTURED
    for name in CREDENTIALS:
        with pytest.raises(ValueError, match=f"headers: {name} may hold credentials, leave it out"):
            EnvelopePublisher(str(tmp_path), headers=["X-Kept", name.title()])
    publisher = EnvelopePublisher(str(tmp_path), headers=["X-Kept"])
    for spell in (str.lower, str.upper, str.title):
        headers = {spell(name): "canary" for name in CREDENTIALS}
        publisher.capture("flights", b"1", b"2", headers={**headers, "X-Kept": "1"})
        raw = [(name.encode(), b"canary") for name in headers]
        publisher.capture("flights", b"1", b"2", headers=[*raw, (b"x-kept", b"\xe9")])
        publisher.capture_actual("flights", b"1", headers=headers)
    assert dropped(publisher) == {}
    found = Counter(one["headers"] for one in envelopes(stored(tmp_path)).values())
    assert found == {b'{"x-kept":"1"}': 3, '{"x-kept":"é"}'.encode(): 3, b"{}": 3}


def test_many_threads(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path), max_queued=100_000)

    def work(number: int) -> list[str]:
        return [publisher.capture(f"m{number % 3}", b"%d" % i, b"2") for i in range(1500)]

    with ThreadPoolExecutor(8) as pool:
        ids = [one for part in pool.map(work, range(8)) for one in part]
    assert dropped(publisher) == {}
    assert publisher.stats()["served"] == publisher.stats()["published"] == 12_000
    found = envelopes(stored(tmp_path))
    assert len(ids) == len(set(ids)) == 12_000
    assert set(found) == set(ids)


def test_the_books_balance_when_it_is_closed_under_load(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    stop = threading.Event()

    def work(_: int) -> int:
        count = 0
        while not stop.is_set():
            publisher.capture("flights", b"1", b"2")
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        served = pool.map(work, range(4))
        try:
            eventually(lambda: publisher.stats()["served"] > 1000)
            publisher.close()
            eventually(lambda: publisher.stats()["dropped"].get("closed", 0) > 1000)
        finally:
            stop.set()
        count = sum(served)
    causes = dropped(publisher)
    assert publisher.stats()["served"] == count
    assert set(causes) <= {"closed", "queue_full", "broker"}
    assert len(envelopes(stored(tmp_path))) == publisher.stats()["published"]


def test_a_signal_while_the_thread_is_started(tmp_path: Path) -> None:
    """Its handler runs in the middle of what the first capture does, and may capture, too."""
    publisher = EnvelopePublisher(str(tmp_path))
    ids = []
    with publisher._starting:
        ids.append(publisher.capture("flights", b"handler", b"2"))
    ids.append(publisher.capture("flights", b"1", b"2"))
    assert dropped(publisher) == {}
    assert list(envelopes(stored(tmp_path))) == ids


anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.binary(max_size=5)
    | st.lists(st.integers() | st.text(max_size=3) | st.tuples(st.text(), st.text()), max_size=2)
    | st.dictionaries(st.text(max_size=3) | st.integers(), st.text(max_size=3) | st.none())
    | st.datetimes()
    | st.datetimes(timezones=st.timezones())
    | st.just(Raises())
    | st.builds(object)
)
PREDICTION = ["context", "model_version", "status", "latency_us", "event_time", "headers"]
ACTUAL = ["event_time", "model_version", "headers", "attributes"]


def test_capture_never_raises(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(str(tmp_path))

    @settings(max_examples=200)
    @given(
        st.tuples(anything, anything, anything),
        st.dictionaries(st.sampled_from([*PREDICTION, "attributes", "sampling_key"]), anything),
        st.dictionaries(st.sampled_from(ACTUAL), anything),
    )
    def capture(bodies: tuple[Any, Any, Any], more: dict[str, Any], late: dict[str, Any]) -> None:
        before = publisher.stats()["served"]
        ids = {
            publisher.capture(*bodies, **more),
            publisher.capture_actual(*bodies[:2], **late),
            publisher.capture("flights", b"1", b"2", **more),
        }
        assert len(ids) == 3
        assert publisher.stats()["served"] == before + 3

    capture()
    good = {publisher.capture("flights", b"good", b"2") for _ in range(3)}
    assert set(dropped(publisher)) <= {"refused", "encode"}
    assert good <= set(envelopes(stored(tmp_path)))


names = st.sampled_from(["x", "content-type", "Content-Encoding", "cookie"]) | st.text(max_size=4)
some_bytes = st.builds(lambda part, times: part * times, st.binary(max_size=40), st.integers(0, 60))
by_name = st.dictionaries(names, st.text(max_size=20), max_size=4)
as_asgi = st.lists(
    st.tuples(names.map(lambda name: name.lower().encode()), st.binary(max_size=9)), max_size=4
)


def test_whatever_a_caller_sends_is_read_back_or_counted(tmp_path: Path) -> None:
    limit = 1000
    publisher = EnvelopePublisher(
        str(tmp_path), max_body_bytes=limit, headers=["x", "content-type", "content-encoding"]
    )
    expected: dict[str, tuple[str, bytes, bytes | None, int]] = {}

    @settings(max_examples=200)
    @given(
        st.text(max_size=70) | st.sampled_from(["a", "flights", ""]),
        some_bytes,
        st.none() | some_bytes,
        by_name | as_asgi,
        st.none() | by_name,
        st.none() | st.integers(-(2**40), 2**40),
        st.none() | st.text(max_size=9),
    )
    def capture(
        model_id: str,
        request: bytes,
        response: bytes | None,
        headers: Any,
        attributes: dict[str, str] | None,
        status: int | None,
        key: str | None,
    ) -> None:
        before = publisher.stats()["served"]
        more: dict[str, Any] = {"attributes": attributes, "sampling_key": key}
        envelope_id = publisher.capture(
            model_id, request, response, headers=headers, status=status, **more
        )
        assert publisher.stats()["served"] == before + 1
        cut = (len(request) > limit) + 2 * (len(response or b"") > limit)
        kept = None if response is None else response[:limit]
        expected[envelope_id] = (model_id, request[:limit], kept, cut)

    capture()
    causes = dropped(publisher)
    assert set(causes) <= {"encode"}  # a status that no column holds, half a surrogate pair
    found = envelopes(stored(tmp_path))
    assert len(found) == len(expected) - sum(causes.values()) > 100
    for envelope_id, one in found.items():
        had = (one["model_id"], one["request"], one["response"], one["cut"])
        assert had == expected[envelope_id]
        assert set(json.loads(one["headers"])) <= {"x", "content-type", "content-encoding"}


def test_a_log_handler_that_raises_is_not_the_services_fault(tmp_path: Path) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError

    publisher = EnvelopePublisher(str(tmp_path))
    handler = Broken()
    logging.getLogger("weighbridge").addHandler(handler)
    try:
        publisher.capture("flights", "1", b"2")  # type: ignore[arg-type]
        publisher.capture("flights", b"1", b"2", status=1.5)  # type: ignore[arg-type]
        assert dropped(publisher) == {"refused": 1, "encode": 1}
    finally:
        logging.getLogger("weighbridge").removeHandler(handler)


def blocked(folder: Path) -> Path:
    """A folder in which nothing can be written, as a file stands in its place."""
    folder.rmdir()
    folder.write_text("")
    return folder


def test_an_unwritable_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    publisher = EnvelopePublisher(str(folder), max_queued_bytes=1 << 20)
    blocked(folder)
    tracemalloc.start()
    try:
        for _ in range(600):
            publisher.capture("flights", os.urandom(100_000), b"2")
        started = time.monotonic()
        publisher.close(timeout=0.5)
        assert time.monotonic() - started < 2
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    stats = publisher.stats()
    assert (stats["served"], stats["published"], stats["queued"]) == (600, 0, 0)
    assert set(stats["dropped"]) == {"broker", "queue_full"}
    assert sum(stats["dropped"].values()) == 600
    assert "weighbridge could not publish envelopes: FileExistsError" in caplog.messages
    assert caplog.messages[-1].startswith("weighbridge dropped 600 envelopes: broker ")
    assert 2 <= len(caplog.messages) <= 3


def test_a_folder_that_becomes_writable_while_it_closes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    publisher = EnvelopePublisher(str(folder))
    blocked(folder)
    ids = [publisher.capture("flights", b"1", b"2") for _ in range(3)]
    closing = threading.Thread(target=publisher.close, args=(20,))
    closing.start()
    eventually(lambda: "could not publish" in caplog.text)
    folder.unlink()
    closing.join(20)
    assert dropped(publisher) == {}
    assert list(envelopes(stored(folder))) == ids


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


FULL_DISK = """
import json, resource, sys
from weighbridge import EnvelopePublisher
publisher = EnvelopePublisher(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for _ in range(5):
    publisher.capture("flights", b"1" * 9, b"2", attributes={"x": "y" * 9})
publisher.close(timeout=0.5)
print(json.dumps({k: v for k, v in publisher.stats().items() if v and k != "models"}))
"""


def test_a_full_disk(tmp_path: Path) -> None:
    done = run(FULL_DISK.replace('b"1" * 9', "__import__('os').urandom(3000)"), str(tmp_path))
    assert json.loads(done.stdout) == {"served": 5, "dropped": {"broker": 5}}
    assert done.stderr.splitlines() == [
        "weighbridge could not publish envelopes: OSError",
        "weighbridge dropped 5 envelopes: broker 5 so far",
    ]
    assert list(tmp_path.iterdir()) == []


NO_CLOSE = """
import sys
from weighbridge import EnvelopePublisher
publisher = EnvelopePublisher(sys.argv[1])
print(*(publisher.capture("flights", b"1", b"2") for _ in range(700)))
{end}
"""


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise RuntimeError"])
def test_a_process_that_ends_without_close(tmp_path: Path, end: str) -> None:
    done = run(NO_CLOSE.format(end=end), str(tmp_path))
    ids = done.stdout.split()
    assert len(ids) == 700
    assert set(envelopes(stored(tmp_path))) == set(ids)


FORK = """
import os, sys
from weighbridge import EnvelopePublisher
publisher = EnvelopePublisher(sys.argv[1])
if sys.argv[2] == "used":
    print(publisher.capture("flights", b"parent", b"2"), flush=True)
children = []
for _ in range(2):
    children.append(os.fork())
    if not children[-1]:
        children.clear()
        break
ids = [publisher.capture("flights", b"any", b"2") for _ in range(100)]
os.write(1, (" ".join(ids) + "\\n").encode())
for child in children:
    os.waitpid(child, 0)
assert publisher.stats()["served"] == 100 + (bool(children) and sys.argv[2] == "used")
"""


@pytest.mark.parametrize("before", ["used", "unused"])
def test_forked_processes_have_ids_of_their_own(tmp_path: Path, before: str) -> None:
    """As under a server that loads the service and then forks: equal ids would count as one."""
    done = run(FORK, str(tmp_path), before)
    ids = done.stdout.split()
    assert done.stderr == ""
    assert len(set(ids)) == len(ids) == 300 + (before == "used")
    assert set(envelopes(stored(tmp_path))) == set(ids)


def test_the_readme_says_what_each_cause_means() -> None:
    readme = (Path(__file__).parents[1] / "handlers/README.md").read_text()
    table = readme.partition("The causes:")[2]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == list(CAUSES)


def test_the_readme_names_each_setting() -> None:
    readme = (Path(__file__).parents[1] / "handlers/README.md").read_text()
    table = readme.partition("| setting |")[2].partition("**Sampling**")[0]
    [settings] = [
        {name for name in inspect.signature(EnvelopePublisher).parameters if name != "destination"}
    ]
    assert set(re.findall(r"`(\w+)`", table)) >= settings


@pytest.mark.parametrize("topic", ["projects/p", "projects/p/topics", "projects/p/topics/t/x"])
def test_what_looks_like_a_topic_and_is_none(topic: str) -> None:
    with pytest.raises(ValueError, match="is no topic: write projects/PROJECT/topics/TOPIC"):
        EnvelopePublisher(topic)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"destination": ""}, "destination: give a folder or projects/PROJECT/topics/TOPIC"),
        ({"destination": None}, "destination: give a folder or .*, and no NoneType"),
        ({"destination": b"captured"}, "destination: give a folder or .*, and no bytes"),
        ({"destination": "gs://bucket/captured"}, "'gs://bucket/captured' is neither a folder"),
        ({"destination": "projects/p/topics/a b"}, "is no topic: write"),
        ({"spool": ""}, "spool: give the path of a folder, and no empty text"),
        ({"headers": "x-channel"}, r'headers: give a list of names, such as \["x-channel"\]'),
        ({"headers": None}, "headers: give a list of names"),
        ({"headers": [5]}, "headers: 5 is no name of a header"),
        ({"headers": ["x channel"]}, "headers: 'x channel' is no name of a header"),
        ({"sample": 0.5}, "sample: give shares by model id"),
        ({"max_queued": "10"}, "max_queued: give a whole number from 0 on"),
        ({"max_queued_bytes": -1}, "max_queued_bytes: give a whole number"),
        ({"max_body_bytes": 1.5}, "max_body_bytes: give a whole number"),
        ({"spool_bytes": True}, "spool_bytes: give a whole number"),
        ({"linger": "1"}, "linger: give a number of seconds, and no str"),
        ({"linger": math.nan}, "linger: give a number of seconds from 0 on"),
        ({"heartbeat": -1}, "heartbeat: give a number of seconds from 0 on"),
    ],
)
def test_a_wrong_setting_ends_the_start_and_not_the_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        EnvelopePublisher(**{"destination": "captured", **arguments})
    assert not list(tmp_path.glob("gs*"))


@pytest.mark.parametrize("place", ["taken", "taken/below"])
def test_a_file_where_a_folder_is_wanted(tmp_path: Path, place: str) -> None:
    (tmp_path / "taken").touch()
    for arguments in ({"destination": tmp_path / place}, {"spool": tmp_path / place}):
        [name] = arguments
        with pytest.raises(OSError, match=f"{name}: .* a file; name a folder"):
            EnvelopePublisher(**{"destination": tmp_path / "captured", **arguments})


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("str as request", "take envelopes: request takes bytes, and no str"),
        ("dict as request", "take envelopes: request takes bytes, and no dict"),
        ("None as model", "encode envelopes: model_id takes str, and no NoneType"),
        ("int as version", "take envelopes: model_version takes str, and no int"),
        ("naive time", "take envelopes: event_time has no time zone"),
        ("str as time", "take envelopes: event_time takes a datetime, and no str"),
        ("str as headers", "take envelopes: headers takes a mapping or pairs, and no str"),
        ("str as status", "encode envelopes: status takes int, and no str"),
        ("float as latency", "encode envelopes: latency_us takes int, and no float"),
        ("fails: status", "encode envelopes: status takes int, and no Raises"),
    ],
)
def test_the_log_names_the_argument(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str, line: str
) -> None:
    publisher = EnvelopePublisher(str(tmp_path))
    publisher.capture(**{"model_id": "m", "request": b"1", "response": b"2", **BAD[case]})
    publisher.close()
    assert caplog.messages[0] == f"weighbridge could not {line}"


def as_message(received: Any) -> Message:
    return Message(bytes(received.data), dict(received.attributes), received.message_id)


def test_through_pubsub(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    topic, subscription = emulator.topic()
    publisher = EnvelopePublisher(topic)
    ids = [publisher.capture("flights", b"%d" % i, b"2") for i in range(1200)]
    ids += [publisher.capture_actual("weather", b"%d" % i) for i in range(5)]
    assert dropped(publisher) == {}
    messages = [as_message(one) for one in emulator.pull(subscription, 1205)]
    assert set(envelopes(messages)) == set(ids)
    for message in messages:
        batch = unpack(message.attributes, message.data)
        assert message.attributes == {
            "content": "weighbridge.batch.v1",
            "encoding": "avro+zstd",
            "model_id": batch["model_id"],
            "batch_id": batch["batch_id"],
            "publisher_id": batch["publisher_id"],
            "first_sequence": str(batch["first_sequence"]),
            "envelope_count": str(len(batch["request"])),
        }


def test_more_packs_than_pubsub_takes_at_once(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    topic, subscription = emulator.topic()
    publisher = EnvelopePublisher(topic)
    ids = [publisher.capture("flights", b"1", b"2", model_version=str(i)) for i in range(2100)]
    assert dropped(publisher) == {}
    messages = [as_message(one) for one in emulator.pull(subscription, 2100)]
    assert set(envelopes(messages)) == set(ids)


def test_a_topic_that_is_made_later(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    topic = "projects/test/topics/later"
    publisher = EnvelopePublisher(topic)
    publisher.capture("flights", b"1", b"2")
    eventually(lambda: "could not publish envelopes: NOT_FOUND" in caplog.text)
    assert told(publisher) == {"served": 1, "queued": 1}
    emulator.publisher.create_topic(name=topic)
    eventually(lambda: publisher.stats()["published"] == 1)
    assert dropped(publisher) == {}


def seconds_to_close(publisher: EnvelopePublisher, timeout: float) -> float:
    started = time.monotonic()
    publisher.close(timeout=timeout)
    return time.monotonic() - started


def test_a_topic_that_does_not_exist(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    publisher = EnvelopePublisher("projects/test/topics/nowhere")
    for _ in range(3):
        publisher.capture("flights", b"1", b"2")
    assert seconds_to_close(publisher, 0.5) < 1.5
    assert dropped(publisher) == {"broker": 3}


def test_what_pubsub_refuses_is_not_sent_for_ever(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else one message that it never takes would keep back all others."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    publisher = EnvelopePublisher("projects/test/topics/1-is-no-name")
    for version in range(5):
        publisher.capture("flights", b"1", b"2", model_version=str(version))
    eventually(lambda: publisher.stats()["dropped"] == {"broker": 5})
    assert caplog.messages[0] == "weighbridge could not publish envelopes: INVALID_ARGUMENT"
    assert dropped(publisher) == {"broker": 5}


@pytest.fixture
def port() -> Iterator[tuple[str, socket.socket]]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{listening.getsockname()[1]}", listening


@pytest.mark.parametrize("hung", [False, True])
def test_a_dead_broker(
    port: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch, hung: bool
) -> None:
    host, listening = port
    if hung:
        listening.listen()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    publisher = EnvelopePublisher("projects/test/topics/flights", max_queued=100)
    for _ in range(1000):
        publisher.capture("flights", b"1", b"2")
    assert seconds_to_close(publisher, 0.5) < 1.5
    assert publisher.stats()["published"] == publisher.stats()["queued"] == 0
    assert set(dropped(publisher)) == {"broker", "queue_full"}


def test_capture_does_not_wait_for_a_dead_broker(
    port: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, listening = port
    listening.listen()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    publisher = EnvelopePublisher("projects/test/topics/flights")
    durations = []
    for _ in range(2000):
        started = time.perf_counter()
        publisher.capture("flights", b"1", b"2")
        durations.append(time.perf_counter() - started)
    assert sorted(durations)[1000] < 0.001
    publisher.close(timeout=0)
    assert dropped(publisher) == {"broker": 2000}


def test_a_process_that_publishes_and_ends(emulator: Emulator) -> None:
    topic, subscription = emulator.topic()
    environment: Mapping[str, str] = {**os.environ, "PUBSUB_EMULATOR_HOST": emulator.host}
    done = subprocess.run(
        [sys.executable, "-c", NO_CLOSE.format(end=""), topic],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.stderr == ""
    messages = [as_message(one) for one in emulator.pull(subscription, 700)]
    assert set(envelopes(messages)) == set(done.stdout.split())
