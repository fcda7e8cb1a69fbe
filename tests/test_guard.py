"""The time limit ends a call, and nothing but the call."""

import threading
import time
from collections.abc import Iterator

import pytest

from schemas.guard import TICK_SECONDS, TimeLimit, TimeLimitReached


@pytest.fixture
def limit() -> Iterator[TimeLimit]:
    limit = TimeLimit()
    yield limit
    limit.close()


def loop(_: object) -> None:
    while True:
        pass


def spin(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def test_a_quick_call_gives_its_result(limit: TimeLimit) -> None:
    assert limit.call(lambda text: text.upper(), "a", 1.0) == "A"


def test_an_exception_of_the_call_passes(limit: TimeLimit) -> None:
    with pytest.raises(ZeroDivisionError):
        limit.call(lambda number: 1 // number, 0, 1.0)


def test_a_call_without_end_is_ended_after_its_own_limit(limit: TimeLimit) -> None:
    for seconds in (0.2, 0.5):
        started = time.monotonic()
        with pytest.raises(TimeLimitReached):
            limit.call(loop, None, seconds)
        taken = time.monotonic() - started
        assert taken >= seconds - TICK_SECONDS
    assert limit.call(spin, 0.01, 0.2) == "done"


def test_except_exception_does_not_catch_it(limit: TimeLimit) -> None:
    def stubborn(_: object) -> None:
        while True:
            try:
                loop(None)
            except Exception:
                continue

    with pytest.raises(TimeLimitReached):
        limit.call(stubborn, None, 0.2)
    assert not issubclass(TimeLimitReached, Exception)


def test_a_call_that_swallows_it_is_ended_the_next_time(limit: TimeLimit) -> None:
    caught = []

    def swallows_once(_: object) -> None:
        try:
            loop(None)
        except BaseException as error:
            caught.append(type(error))
        loop(None)

    with pytest.raises(TimeLimitReached):
        limit.call(swallows_once, None, 0.2)
    assert caught == [TimeLimitReached]


def test_calls_that_end_just_at_the_limit_never_leak_it(limit: TimeLimit) -> None:
    """Whether the call wins or the limit: the exception comes out of the call, or not at all."""
    ended = finished = raised = 0
    for number in range(60):
        # From shorter than the limit to longer, so that many end while the watcher fires.
        seconds = 0.05 + TICK_SECONDS * (number % 20) / 10
        try:
            if number % 3:
                assert limit.call(spin, seconds, 0.05) == "done"
                finished += 1
            else:

                def fails(seconds: float) -> None:
                    spin(seconds)
                    raise KeyError

                limit.call(fails, seconds, 0.05)
        except TimeLimitReached:
            ended += 1
        except KeyError:
            raised += 1
        # An exception that was still on its way would arrive here.
        spin(0.002)
    assert ended + finished + raised == 60
    assert ended
    assert finished + raised


def test_two_threads_have_limits_of_their_own() -> None:
    results: dict[str, str] = {}

    def work(name: str, call: object) -> None:
        limit = TimeLimit()
        try:
            results[name] = limit.call(call, 0.6, 0.3)  # type: ignore[arg-type]
        except TimeLimitReached:
            results[name] = "ended"
        finally:
            limit.close()

    threads = [
        threading.Thread(target=work, args=("slow", spin)),
        threading.Thread(target=work, args=("quick", lambda _: "quick")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"slow": "ended", "quick": "quick"}


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    limits = [TimeLimit() for _ in range(5)]
    assert threading.active_count() == before + 5
    for limit in limits:
        limit.close()
    assert threading.active_count() == before
