"""Bodies beyond their limit, contexts that are objects, and envelopes beyond the budget."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from test_publisher import Raises, dropped, envelopes, stored

from weighbridge import EnvelopePublisher
from weighbridge.wire import CUT_CONTEXT, CUT_REQUEST, CUT_RESPONSE


def only(folder: Path) -> dict[str, Any]:
    [found] = envelopes(stored(folder)).values()
    return found


@pytest.mark.parametrize("oversize", ["cut", "leave_out"])
def test_large_bodies_are_marked(tmp_path: Path, oversize: Any) -> None:
    publisher = EnvelopePublisher(tmp_path, max_body_bytes=4, oversize=oversize)
    publisher.capture("flights", b"12345", b"1234", context=b"12345")
    assert dropped(publisher) == {}
    found = only(tmp_path)
    assert found["cut"] == CUT_REQUEST | CUT_CONTEXT
    assert found["request"] == (b"1234" if oversize == "cut" else None)
    assert (found["response"], found["context"]) == (b"1234", None)


def test_what_the_caller_has_cut_stays_marked(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(tmp_path, max_body_bytes=4)
    publisher.capture("flights", b"12345", b"1", cut=CUT_RESPONSE)
    assert dropped(publisher) == {}
    assert only(tmp_path)["cut"] == CUT_REQUEST | CUT_RESPONSE


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"oversize": "drop"}, "oversize: write 'cut' or 'leave_out'"),
        ({"when_full": "oldest"}, "when_full: write 'drop_newest' or 'drop_oldest'"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, setting: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EnvelopePublisher(tmp_path, **setting)


class Model(BaseModel):
    when: date


@dataclass
class Data:
    x: int


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"features": [1, 2.5, None]}, {"features": [1, 2.5, None]}),
        ("text", "text"),
        ({"array": np.arange(3), "one": np.float32(0.5)}, {"array": [0, 1, 2], "one": 0.5}),
        ({1: Model(when=date(2026, 1, 2))}, {"1": {"when": "2026-01-02"}}),
        ([Data(1), {2}, (3,)], [{"x": 1}, [2], [3]]),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (False, False),
        (0, 0),
    ],
)
def test_a_context_that_is_an_object(tmp_path: Path, context: Any, expected: Any) -> None:
    publisher = EnvelopePublisher(tmp_path)
    publisher.capture("flights", b"1", b"2", context=context)
    assert dropped(publisher) == {}
    assert json.loads(only(tmp_path)["context"]) == expected
    assert only(tmp_path)["cut"] == 0


@pytest.mark.parametrize(
    "make", [Raises, lambda: {"x": object()}, lambda: {"x": b"bytes"}, lambda: "x" * 99]
)
def test_a_context_that_is_no_json_or_too_large(tmp_path: Path, make: Any) -> None:
    """It is left out and the envelope kept: marked, it becomes a dead letter that says so."""
    publisher = EnvelopePublisher(tmp_path, max_body_bytes=50)
    publisher.capture("flights", b"1", b"2", context=make())
    publisher.capture("flights", b"3", b"4", context={})
    assert dropped(publisher) == {}
    found = sorted(
        (one["request"], one["context"], one["cut"]) for one in envelopes(stored(tmp_path)).values()
    )
    assert found == [(b"1", None, CUT_CONTEXT), (b"3", b"{}", 0)]


def test_the_oldest_give_way_if_they_are_to(tmp_path: Path) -> None:
    newest = EnvelopePublisher(tmp_path / "newest", max_queued=10)
    oldest = EnvelopePublisher(tmp_path / "oldest", max_queued=10, when_full="drop_oldest")
    for publisher in (newest, oldest):
        publisher._worker.closing = True  # so that its thread ends without taking anything
        for i in range(30):
            publisher.capture("flights", b"%02d" % i, b"2")
    for publisher in (newest, oldest):
        assert sum(dropped(publisher).values()) + publisher.stats()["published"] == 30
    kept = sorted(one["request"] for one in envelopes(stored(tmp_path / "oldest")).values())
    assert kept[-1] == b"29"


@given(
    sizes=st.lists(st.integers(0, 3000), max_size=60), drop=st.sampled_from(["newest", "oldest"])
)
def test_the_budget_holds_whatever_the_sizes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], drop: str
) -> None:
    folder = tmp_path_factory.mktemp("budget")
    when_full: Any = f"drop_{drop}"
    publisher = EnvelopePublisher(folder, max_queued_bytes=5000, when_full=when_full)
    for size in sizes:
        publisher.capture("m", bytes(size), b"")
        assert publisher._bytes_in - publisher._worker.freed <= 5000
    assert set(dropped(publisher)) <= {"queue_full"}
    assert len(envelopes(stored(folder))) == publisher.stats()["published"]
