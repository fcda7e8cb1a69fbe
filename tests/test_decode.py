"""Messages to envelopes and back: nothing but a RecordError ever comes out of hostile bytes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import NOW, micros, packed, plain, scored

from pipelines.decode import Decoded, decode, whole_dead_letter
from schemas import DecodeError, ExtractError, Failure, RecordError, RouteError
from weighbridge.archive import Message
from weighbridge.bodies import unzstd

LIMIT = 1 << 20
FAILURE = Failure.of(ExtractError("raised KeyError"), "scores")
PACK = packed(
    "scores",
    [scored(0.1), scored(0.2, context={"a": 1}), scored(0.3)],
    first=40,
    headers=[b'{"x-a": "1"}', b"{}", b"{}"],
    status=[200, None, 500],
)


def opened(message: Message) -> Decoded:
    decoded = decode(message, LIMIT)
    assert decoded is not None
    return decoded


def contents(decoded: Decoded) -> list[tuple[Any, ...]]:
    return [
        (
            envelope.envelope_id,
            time,
            envelope.kind,
            envelope.model_version,
            envelope.status,
            dict(envelope.headers),
            envelope.request_bytes,
            envelope.response_bytes,
            envelope.context_bytes,
        )
        for time, envelope in zip(decoded.times, decoded.envelopes())
    ]


def test_each_envelope_of_a_pack_survives_as_a_dead_letter_of_its_own() -> None:
    decoded = opened(PACK)
    wanted = contents(decoded)
    for index in range(len(decoded.ids)):
        letter = decoded.dead_letter(index, FAILURE)
        assert contents(opened(letter)) == [wanted[index]]
        assert letter.attributes["envelope_count"] == "1"
        # Failing again changes nothing: it is the same letter.
        again = opened(letter).dead_letter(0, FAILURE)
        assert again == letter


def test_a_pack_of_one_gets_a_batch_id_of_its_own_once() -> None:
    single = packed("scores", [scored(0.1)], first=7)
    letter = opened(single).dead_letter(0, FAILURE)
    assert letter.attributes["batch_id"] == "pub-7.0"
    assert opened(letter).dead_letter(0, FAILURE).attributes["batch_id"] == "pub-7.0"


def test_a_plain_dead_letter_resolves_to_the_same_envelope() -> None:
    message = plain("scores", scored(0.1), message_id="m", **{"header-x-a": "1", "note": "n"})
    wanted = contents(opened(message))
    letter = opened(message).dead_letter(0, FAILURE)
    moved = letter._replace(message_id="other", publish_time=micros(NOW) + 5)
    assert contents(opened(moved)) == wanted
    assert letter.data == message.data


def test_old_failure_attributes_are_replaced() -> None:
    message = plain("scores", b"{", message_id="m", failure_stage="old", failure_note="old")
    letter = whole_dead_letter(message, FAILURE)
    assert letter.attributes["failure_stage"] == "extract"
    assert "failure_note" not in letter.attributes


def test_heartbeats_are_no_envelopes() -> None:
    with pytest.raises(DecodeError):
        decode(Message(b"\1", {"content": "weighbridge.heartbeat.v1", "encoding": "avro"}), LIMIT)


def test_a_pack_without_model_id_attribute_is_not_routed() -> None:
    attributes = {k: v for k, v in PACK.attributes.items() if k != "model_id"}
    with pytest.raises(RouteError):
        decode(PACK._replace(attributes=attributes), LIMIT)


def assert_total(message: Message) -> None:
    """Whatever a message is, it is refused whole, or each envelope is refused or can be read."""
    try:
        decoded = decode(message, LIMIT)
    except RecordError as error:
        letter = whole_dead_letter(message, Failure.of(error))
        assert letter.data == message.data
        return
    if isinstance(decoded, dict):
        return
    for index, envelope in enumerate(decoded.envelopes()):
        assert envelope.envelope_id == decoded.ids[index]
        assert envelope.event_micros == decoded.times[index]
        assert envelope.status == decoded.statuses[index]
        refused = decoded.refusal(index)
        letter = decoded.dead_letter(index, FAILURE)
        again = opened(letter)
        assert len(again.ids) == 1
        assert (again.refusal(0) is None) == (refused is None)
        assert raw(again, 0) == raw(decoded, index)


def raw(decoded: Decoded, index: int) -> tuple[Any, ...]:
    """Id, time and request as captured: undoing a made-up encoding would be refused."""
    envelope = list(decoded.envelopes())[index]
    return envelope.envelope_id, decoded.times[index], envelope._request_raw


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300), encoding=st.sampled_from(["avro", "avro+zstd", "x", None]))
def test_random_packs(data: bytes, encoding: str | None) -> None:
    attributes = {"content": "weighbridge.batch.v1", "model_id": "scores"}
    if encoding:
        attributes["encoding"] = encoding
    assert_total(Message(data, attributes, "m", micros(NOW)))


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), drop=st.booleans())
def test_damaged_packs(position: int, value: int, drop: bool) -> None:
    data = bytearray(unzstd(PACK.data, LIMIT))
    position %= len(data)
    if drop:
        del data[position]
    else:
        data[position] = value
    attributes = {**PACK.attributes, "encoding": "avro"}
    assert_total(PACK._replace(data=bytes(data), attributes=attributes))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    body=st.dictionaries(st.sampled_from(["request", "response", "context", "actual"]), JSON)
    | JSON
    | st.binary(max_size=50),
    attributes=st.dictionaries(
        st.sampled_from(
            ["model_id", "kind", "event_time", "status", "latency_us", "envelope_id", "header-a"]
        ),
        st.sampled_from(["scores", "prediction", "actual", "2026-01-01T00:00:00Z", "200", "-1", ""])
        | st.text(max_size=10),
    ),
    published=st.none() | st.just(micros(NOW)),
)
def test_random_plain_messages(
    body: Any, attributes: dict[str, str], published: int | None
) -> None:

    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert_total(Message(data, attributes, "m", published))
