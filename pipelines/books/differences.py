"""What does not balance, in words: which publisher, how many, which numbers, and likely why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pipelines.books.balance import LOST, Account, Bookkeeper, missing, total
from pipelines.books.beats import NOTHING, Beat, Beats

MOST_RANGES, MOST_MODELS = 5, 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class State(StrEnum):
    """How a publisher is: it said goodbye, it was heard of lately, or neither."""

    CLOSED = "closed"
    RUNNING = "running"
    SILENT = "silent"


@dataclass(frozen=True)
class Standing:
    """A publisher at the moment of asking.

    Attributes:
        last: its last heartbeat.
        state: how it is.
        lost_since: of a silent one, the most that it may have served and lost since then.
        account: settled until the grace began; None for one that began later.
    """

    publisher: str
    last: Beat
    state: State
    lost_since: int
    account: Account | None

    @property
    def balances(self) -> bool:
        """Whether all that could have arrived is accounted for."""
        if self.account is None:
            return True
        # More than was served: a running one has counted on meanwhile.
        return self.account.missing == 0 or (
            self.account.missing < 0 and self.state is State.RUNNING
        )


def standings(
    keeper: Bookkeeper, beats: Beats, since: int, until: int, now: int, grace: int
) -> list[Standing]:
    """All publishers that sent a heartbeat in a time, by id.

    Args:
        keeper: settles their accounts.
        beats: their heartbeats.
        since: from then; microseconds, as all of these.
        until: before then.
        now: the moment of asking.
        grace: what was served less long ago may still be on its way.
    """
    found = []
    for publisher in beats.publishers:
        last = next(beats.before(publisher, until), NOTHING)
        if last.time < since:
            continue
        account = keeper.settled(publisher, since, min(until, now - grace))
        state = _state(last, now, grace)
        lost = _lost_since(beats, publisher, keeper, last) if state is State.SILENT else 0
        found.append(Standing(publisher, last, state, lost, account))
    return found


def _state(last: Beat, now: int, grace: int) -> State:
    if last.final:
        return State.CLOSED
    return State.RUNNING if last.time >= now - grace else State.SILENT


def _lost_since(beats: Beats, publisher: str, keeper: Bookkeeper, last: Beat) -> int:
    """What is nowhere of the numbers seen since, and its rate until the next heartbeat was due."""
    before = [*beats.before(publisher, last.time), NOTHING][0]
    due = last.total["served", ""] - before.total["served", ""]
    account = keeper.account(publisher, last, last)
    seen = max(0, account.last_number + 1 - last.sequence)
    # More than that: heartbeats got lost, and the next one was due at some moment later.
    return seen - account.later + (due - seen if seen < due else due)


def describe(standing: Standing) -> list[str]:
    """What does not balance, as lines of text: the difference, where, and likely why."""
    account = standing.account
    if account is None or standing.balances:
        return []
    name = f"publisher {standing.publisher}"
    served = total(account.counts, "served")
    if account.missing < 0:
        return [
            f"{name}: served {served:,}, and {-account.missing:,} more are found",
            "likely: two processes share a publisher id, or heartbeats were lost",
        ]
    return [
        f"{name}: served {served:,}, {account.missing:,} missing{_models(account)}: "
        f"{_numbers(account)}; last heartbeat {moment(standing.last.time)}",
        f"likely: {_cause(standing, account)}",
    ]


def _models(account: Account) -> str:
    lacking = {model: missing(counts) for model, counts in account.models.items()}
    named = [f"{count:,} of {model}" for model, count in sorted(lacking.items()) if count and model]
    return f" ({', '.join(named[:MOST_MODELS])})" if named else ""


def _numbers(account: Account) -> str:
    ranges = [str(a) if a == b else f"{a:,}-{b:,}" for a, b in account.holes[-MOST_RANGES:]]
    left = len(account.holes) - len(ranges)
    more = f" and {left:,} more ranges before" if left else ""
    sequence = f"sequence {', '.join(ranges)}{more}"
    gone = account.unfound - account.missing
    if gone <= 0:
        return sequence
    lost = total(account.counts, *LOST)
    return f"among {sequence}, of which {lost:,} were sampled out or dropped"


def _cause(standing: Standing, account: Account) -> str:
    counts, last = account.end.total, standing.last
    queued = counts["served", ""] - total(counts, *LOST, "spooled", "published")
    spooled = last.total["spooled", ""]
    parts = []
    if spooled:
        whose = {
            State.RUNNING: "in its spool, as it does not reach its destination",
            State.CLOSED: "in the spool that it left; the next process with that spool sends them",
            State.SILENT: "in the spool that it left; the next process with that spool sends them",
        }[standing.state]
        parts.append(f"up to {spooled:,} {whose}")
    if queued and standing.state is State.SILENT:
        parts.append(f"up to {queued:,} in its memory when it was killed")
    if spooled + queued * (standing.state is State.SILENT) < account.missing:
        parts.append(
            "published and not yet arrived: look for files that no run has read, and for messages "
            "that wait in the subscription"
        )
    return "; ".join(parts)


def since_last(standing: Standing) -> str:
    """What a silent publisher may have lost beyond its books."""
    if not standing.lost_since:
        return ""
    return (
        f"publisher {standing.publisher}: silent since {moment(standing.last.time)} without a last "
        f"word; lost since its last heartbeat: between 0 and about {standing.lost_since:,}"
    )


def moment(micros: int) -> str:
    """A time as text, to the second, UTC."""
    return f"{_EPOCH + timedelta(microseconds=micros):%Y-%m-%dT%H:%M:%SZ}"
