"""Which stored messages are wanted, told from their attributes: no payload is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from weighbridge.archive import Message


@dataclass(frozen=True, slots=True)
class Selection:
    """A model, a time and a group of dead letters; what is None or "" selects all.

    Attributes:
        model: id of the model.
        since: earliest publish time, microseconds since 1970, UTC.
        until: publish time from which on nothing is wanted.
        group: see `group_of`, or how it begins.
    """

    model: str = ""
    since: int | None = None
    until: int | None = None
    group: str = ""

    def takes(self, message: Message) -> bool:
        """Whether a message is wanted."""
        attributes, published = message.attributes, message.publish_time or 0
        return (
            self.model in ("", attributes.get("model_id"))
            and (self.since is None or published >= self.since)
            and (self.until is None or published < self.until)
            and (not self.group or group_of(message).startswith(self.group))
        )


EVERYTHING = Selection()


def group_of(letter: Message) -> str:
    """Eight hex digits: the same for dead letters of one cause under one extractor version."""
    found = letter.attributes
    parts = (found.get("failure_fingerprint", ""), found.get("failure_extractor_version", ""))
    return blake2b("\0".join(parts).encode(), digest_size=4).hexdigest()
