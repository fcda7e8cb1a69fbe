"""A packed message with what is counted for it, and groups of them as calls take them."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from weighbridge.counts import ModelCounts
from weighbridge.destinations import PUBLISH_BYTES, PUBLISH_MESSAGES, Packed


class Pack(NamedTuple):
    """One message on its way.

    Attributes:
        message: its attributes and data.
        envelopes: how many are in it; none in a heartbeat.
        counts: of its model; None in a heartbeat, and for a message of another process.
        since: when it was packed, seconds of the monotonic clock.
    """

    message: Packed
    envelopes: int
    counts: ModelCounts | None
    since: float

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return len(self.message[1])


def take_group(waiting: deque[Pack]) -> list[Pack]:
    """The first packs, as many as one call takes."""
    group: list[Pack] = []
    size = 0
    while waiting and len(group) < PUBLISH_MESSAGES:
        size += waiting[0].size
        if group and size > PUBLISH_BYTES:
            break
        group.append(waiting.popleft())
    return group


def is_full_group(waiting: deque[Pack], size: int) -> bool:
    """Whether these packs, of `size` bytes together, are more than one call takes."""
    return len(waiting) >= PUBLISH_MESSAGES or size >= PUBLISH_BYTES
