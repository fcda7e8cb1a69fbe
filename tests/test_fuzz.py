"""A little of what `make fuzz` does at length, and the cases that it found."""

import io
from collections import Counter
from collections.abc import Iterator

import fastavro
import pytest
from fuzz.checks import Extraction, check_archive
from fuzz.inputs import MESSAGES, archives, mutations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import packed, plain, scored

from schemas.failure import Stage
from weighbridge.archive import Message, UnreadableArchive, encode_archive, read_archive

PLACES = {
    *("rows", "skipped", "parked", "heartbeat", "no envelopes"),
    *(stage.value for stage in Stage),
}
"""Where an envelope can be."""
QUICK = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def extraction() -> Iterator[Extraction]:
    with Extraction() as found:
        yield found


@QUICK
@given(message=MESSAGES, number=st.integers(0))
def test_every_message_is_somewhere(extraction: Extraction, message: Message, number: int) -> None:
    assert set(extraction.check(message).split("+")) <= PLACES
    for mutated, _ in zip(mutations(message, number), range(10)):
        assert set(extraction.check(mutated).split("+")) <= PLACES


@QUICK
@given(data=archives(), number=st.integers(0))
def test_every_archive_is_read_or_named_as_damaged(data: bytes, number: int) -> None:
    assert check_archive(data) in ("whole", "damaged")
    for mutated, _ in zip(mutations(data, number), range(10)):
        assert check_archive(mutated) in ("whole", "damaged")


def test_the_checks_tell_outcomes_apart(extraction: Extraction) -> None:
    outcomes = Counter(
        extraction.check(plain(model_id, scored(score), message_id="m"))
        for model_id, score in [
            ("scores", 0.5),
            ("scores", "x"),
            ("raises", 1),
            ("new", 1),
            ("", 1),
        ]
    )
    assert set(outcomes) == {"rows", "validate", "extract", "parked", "route"}


@pytest.mark.parametrize("micros", [253_402_300_800_000_000, 2**62, -1, 0])
def test_a_publish_time_that_no_calendar_has(extraction: Extraction, micros: int) -> None:
    """Its dead letter could not be written, and a row was in the year 10000."""
    data = encode_archive([Message(b"null", {"model_id": "scores"}, "", micros)])
    [message] = read_archive(io.BytesIO(data))
    assert message.publish_time is None
    assert extraction.check(message) == "decode"


@pytest.mark.parametrize(
    ("first", "offset"), [(-(2**63) + 28, -29), (2**63 - 1, 1), (-2, 1), (5, -6)]
)
def test_sequence_numbers_that_no_publisher_gives_out(
    extraction: Extraction, first: int, offset: int
) -> None:
    """The dead letter of one of its envelopes could not be written."""
    message = packed("scores", [scored("x")], first=first, sequence_offset=[offset])
    assert extraction.check(message) == "decode"


def test_records_that_hold_themselves() -> None:
    """Reading one overflowed the stack of C, which ended the process."""
    kinds = [{"name": "data", "type": ["null", "M"]}]
    out = io.BytesIO()
    fastavro.writer(out, {"type": "record", "name": "M", "fields": kinds}, [{"data": None}])
    with pytest.raises(UnreadableArchive, match="a field is nested"):
        list(read_archive(io.BytesIO(out.getvalue())))
