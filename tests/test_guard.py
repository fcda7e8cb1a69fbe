"""The time limit ends a call, and nothing but the call."""

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from schemas import guard
from schemas.guard import TICK_SECONDS, Raised, TimeLimit, TimeLimitReached


@pytest.fixture
def limit() -> Iterator[TimeLimit]:
    limit = TimeLimit()
    yield limit
    limit.close()


def called(limit: TimeLimit, function: Any, argument: Any, seconds: float) -> Any:
    [outcome] = limit.each(function, [argument], seconds)
    if isinstance(outcome, Raised):
        raise outcome.error
    return outcome


def loop(_: object) -> None:
    while True:
        pass


def spin(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def test_a_quick_call_gives_its_result(limit: TimeLimit) -> None:
    assert called(limit, lambda text: text.upper(), "a", 1.0) == "A"


def test_an_exception_of_the_call_passes(limit: TimeLimit) -> None:
    with pytest.raises(ZeroDivisionError):
        called(limit, lambda number: 1 // number, 0, 1.0)


def test_a_call_without_end_is_ended_after_its_own_limit(limit: TimeLimit) -> None:
    for seconds in (0.2, 0.5):
        started = time.monotonic()
        with pytest.raises(TimeLimitReached):
            called(limit, loop, None, seconds)
        taken = time.monotonic() - started
        assert taken >= seconds - TICK_SECONDS
    assert called(limit, spin, 0.01, 0.2) == "done"


def test_except_exception_does_not_catch_it(limit: TimeLimit) -> None:
    def stubborn(_: object) -> None:
        while True:
            try:
                loop(None)
            except Exception:
                continue

    with pytest.raises(TimeLimitReached):
        called(limit, stubborn, None, 0.2)
    assert TimeLimitReached.__mro__ == (TimeLimitReached, BaseException, object)


def test_a_call_that_swallows_it_is_ended_the_next_time(limit: TimeLimit) -> None:
    caught = []

    def swallows_once(_: object) -> None:
        try:
            loop(None)
        except BaseException as error:
            caught.append(type(error))
        loop(None)

    with pytest.raises(TimeLimitReached):
        called(limit, swallows_once, None, 0.2)
    assert caught == [TimeLimitReached]


CALLS = 600


def ends_as_it_likes(seconds: float) -> str:
    spin(seconds)
    raise KeyError


def swallows(seconds: float) -> str:
    try:
        return spin(seconds)
    except BaseException:
        return "swallowed"


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The watcher looks again at once, and hesitates where a call may just have ended."""
    raise_in, end = guard._raise_in, TimeLimit._end

    def hesitate() -> None:
        threading.Event().wait(random.uniform(0, 0.001))

    def raise_late(thread_id: int, error: type[BaseException] | None) -> None:
        if error is not None:
            hesitate()
        raise_in(thread_id, error)

    def end_late(limit: TimeLimit, running: Any, error: type[BaseException]) -> None:
        hesitate()
        end(limit, running, error)

    interval = sys.getswitchinterval()
    monkeypatch.setattr(guard, "TICK_SECONDS", 0.0002)
    monkeypatch.setattr(guard, "_raise_in", raise_late)
    monkeypatch.setattr(TimeLimit, "_end", end_late)
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_that_end_just_at_the_limit_never_leak_it(restless: None, threads: int) -> None:
    """Whether the call wins or the limit: the exception comes out of the call, or not at all."""
    outcomes: Counter[str] = Counter()

    def work(seed: int) -> None:
        limit, chance = TimeLimit(), random.Random(seed)
        try:
            for _ in range(CALLS):
                # From shorter than the limit to longer, so that many end while the watcher fires.
                function = chance.choice((spin, ends_as_it_likes, swallows))
                try:
                    outcomes[called(limit, function, chance.uniform(0.0004, 0.003), 0.0005)] += 1
                except TimeLimitReached:
                    outcomes["ended"] += 1
                except KeyError:
                    outcomes["raised"] += 1
                # An exception that was still on its way would arrive here.
                sum(range(chance.randrange(500)))
        except TimeLimitReached:
            outcomes["leaked"] += 1
        finally:
            limit.close()

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert outcomes.total() == CALLS * threads, outcomes
    assert set(outcomes) == {"done", "swallowed", "ended", "raised"}


def test_two_threads_have_limits_of_their_own() -> None:
    results: dict[str, str] = {}

    def work(name: str, call: object) -> None:
        limit = TimeLimit()
        try:
            results[name] = called(limit, call, 0.6, 0.3)  # type: ignore[arg-type]
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
