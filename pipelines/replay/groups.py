"""Dead letters by cause: one line for one bug."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipelines.replay.letters import Stored
from pipelines.selection import group_of
from pipelines.stored import failed_id, model_id_of
from weighbridge.archive import Message

MAX_PLACES = 5
_PLACE_IN_RECORD = re.compile(r"^row \d+: ")


@dataclass
class Group:
    """Dead letters of one stage, cause, model and extractor version.

    Attributes:
        name: see `group_of`.
        message: what was wrong, without the place in the single record.
        first: publish time of the oldest one, microseconds since 1970, UTC.
        last: of the newest one.
        example: the oldest one, of those the one of the lowest id.
        places: files and positions of some.
        again: how many of them stand for an envelope that had failed for another cause before.
    """

    name: str
    message: str
    example: Stored
    first: int
    last: int
    again: int = 0
    places: list[tuple[str, int]] = field(default_factory=list)
    _ids: set[int] = field(default_factory=set)

    @property
    def count(self) -> int:
        """Distinct envelopes."""
        return len(self._ids)

    @property
    def attributes(self) -> dict[str, str]:
        """Attributes of the example."""
        return self.example.message.attributes

    @property
    def model(self) -> str:
        """The model id, "" if the message names none, or one that cannot be."""
        return model_id_of(self.example.message)

    def add(self, letter: Stored) -> None:
        """Count one more."""
        published = letter.message.publish_time or 0
        self.example = min(self.example, letter, key=_age)
        self.first, self.last = min(self.first, published), max(self.last, published)
        self._ids.add(hash(failed_id(letter.message)))  # 8 bytes an id, whatever its length
        self.again += "failure_first" in letter.message.attributes
        if len(self.places) < MAX_PLACES:
            self.places.append((letter.file, letter.position))


def grouped(letters: Iterable[Stored]) -> list[Group]:
    """The groups of dead letters, that of most envelopes first."""
    found: dict[str, Group] = {}
    for letter in letters:
        message = letter.message
        name = group_of(message)
        group = found.get(name)
        if group is None:
            published = message.publish_time or 0
            text = _text(message)
            group = found[name] = Group(name, text, letter, published, published)
        group.add(letter)
    return sorted(found.values(), key=lambda group: (-group.count, group.name))


def _age(letter: Stored) -> tuple[int, str]:
    return letter.message.publish_time or 0, failed_id(letter.message)


def _text(letter: Message) -> str:
    return _PLACE_IN_RECORD.sub("", letter.attributes.get("failure_message", ""))
