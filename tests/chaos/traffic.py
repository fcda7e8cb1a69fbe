"""Seeded traffic, and what must become of each envelope of it, said without the pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any

from support import EPOCH, NOW, at, micros, packed, plain
from support import heartbeat as heartbeat_message

from weighbridge.archive import Message

TABLE, DEAD, PARKED, SKIPPED = "table", "dead letter", "parked", "skipped"
MINUTE, DAY = 60_000_000, 86_400_000_000
MEMORY = 200
"""Messages that may come again."""
PACKED_ENVELOPES = 40


@dataclass(frozen=True)
class Case:
    """One envelope, and what must become of it.

    Attributes:
        number: what its publisher counts.
        envelope_id: empty if it is the id that Pub/Sub gives its message.
        event_time: microseconds; None if it is the time that Pub/Sub gives its message.
        table: where its rows belong, or would.
        rows: by column.
        reason: why it is a dead letter, or skipped: the stage, or the ledger's word.
    """

    number: int
    envelope_id: str
    model_id: str
    kind: str
    event_time: int | None
    body: Any
    fate: str
    table: str = ""
    rows: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    status: int = 200
    cut: int = 0


@dataclass(frozen=True)
class Sent:
    """One message, and the envelopes or the counts in it."""

    message: Message
    cases: tuple[Case, ...] = ()
    counts: tuple[dict[str, Any], ...] = ()

    def received_as(self, message_id: str) -> Sent:
        """With the id that it was given when it was published."""
        named = [replace(c, envelope_id=c.envelope_id or message_id) for c in self.cases]
        return replace(self, cases=tuple(named))


class Traffic:
    """Messages without end, the same for the same seed.

    Out of order, some days late, some twice, some of envelopes that fail, are parked or skipped.

    Args:
        seed: of everything random.
        named: whether every envelope has an id and a time of its own, also without Pub/Sub.
    """

    def __init__(self, seed: int, named: bool = False) -> None:
        self._random = Random(f"traffic {seed}")
        self._named = named
        self._number = 0
        self._messages = 0
        self._past: list[Sent] = []
        self._unlabelled: list[Case] = []

    def next(self) -> Sent:
        """The next message; it may be one of before."""
        choices: dict[Callable[[], Sent], int] = {
            self._packed: 50,
            self._plain: 20,
            self._actuals: 8,
            self._again: 12,
            self._recut: 6,
            self.heartbeat: 4,
        }
        sent = self._random.choices(list(choices), list(choices.values()))[0]()
        self._past = [*self._past[1 - MEMORY :], sent]
        return sent

    def cases(self, count: int) -> list[Case]:
        """Envelopes that no message has yet."""
        return [self._case() for _ in range(count)]

    def message(self, cases: Sequence[Case]) -> Sent:
        """A packed message of envelopes of one model and kind."""
        self._messages += 1
        first = min(case.number for case in cases)
        bodies = [{"request": case.body[0], "response": case.body[1]} for case in cases]
        message = packed(
            cases[0].model_id,
            bodies,
            first=first,
            batch_id=f"pub-{first}-{self._messages}",
            kind=cases[0].kind,
            sequence_offset=[case.number - first for case in cases],
            event_time=[case.event_time for case in cases],
            status=[case.status for case in cases],
            cut=[case.cut for case in cases],
            **({"response": [None] * len(cases)} if cases[0].kind == "actual" else {}),
        )
        return Sent(message._replace(message_id=f"m{self._messages}"), tuple(cases))

    def _packed(self) -> Sent:
        first = self._case()
        more = self._random.randrange(PACKED_ENVELOPES)
        return self.message([first, *(self._case(first.model_id) for _ in range(more))])

    def _actuals(self) -> Sent:
        chosen, self._unlabelled = self._unlabelled[:20], self._unlabelled[20:]
        return self.message([self._actual(case) for case in chosen]) if chosen else self._packed()

    def _again(self) -> Sent:
        return self._random.choice(self._past) if self._past else self._packed()

    def _recut(self) -> Sent:
        """Envelopes of before, in a batch of its own."""
        before = [sent for sent in self._past if "envelope_count" in sent.message.attributes]
        if not before:
            return self._packed()
        cases = self._random.choice(before).cases
        return self.message(cases[self._random.randrange(len(cases)) :])

    def heartbeat(self) -> Sent:
        """What the publisher has counted."""
        self._messages += 1
        time = micros(NOW) - self._messages
        counts = [
            {
                "model_id": model_id,
                "served": self._number,
                "sampled_out": 0,
                "dropped": {"full": self._messages},
                "spooled": 0,
                "published": self._number,
            }
            for model_id in ("parcels", "quotes")
        ]
        message = heartbeat_message("pub", counts, sequence=self._number, time=time)
        key = f"pub@{time}"
        rows = [{"row_id": f"{key}:{i}", "served": c["served"]} for i, c in enumerate(counts)]
        return Sent(message._replace(message_id=f"m{self._messages}"), counts=tuple(rows))

    def _plain(self) -> Sent:
        case = self._case()
        if case.cut:  # only a packed message can say so
            case = replace(case, cut=0, body=b'{"request": ', reason="decode")
        if not self._named and self._random.random() < 0.5:
            case = replace(case, envelope_id="", event_time=None)
        return self.plain(case)

    def plain(self, case: Case) -> Sent:
        """An envelope as a plain message; without an id it takes its message's."""
        self._messages += 1
        body, named = case.body, {}
        if not isinstance(body, bytes):
            body = {"request": body[0], "response": body[1]}
        if case.event_time is not None:
            moment = EPOCH + timedelta(microseconds=case.event_time)
            named = {"envelope_id": case.envelope_id, "event_time": at(moment)}
        if case.number % 7 == 0:  # what names a packed batch is nothing special here
            named["batch_id"] = "nightly"
        message = plain(
            case.model_id,
            body,
            message_id=f"m{self._messages}",
            status=str(case.status),
            **named,
        )
        return Sent(message, (case,))

    def _case(self, model_id: str = "") -> Case:
        number, self._number = self._number, self._number + 1
        model_id = model_id or self._random.choices(("parcels", "quotes", "ghosts"), (6, 5, 1))[0]
        make = {"parcels": _parcels, "quotes": _quote, "ghosts": _ghost}[model_id]
        case = make(self._random, number, self._time())
        if model_id == "parcels" and case.fate == TABLE and self._random.random() < 0.3:
            self._unlabelled.append(case)
        return case

    def _actual(self, about: Case) -> Case:
        number, self._number = self._number, self._number + 1
        label = self._random.choice(("heavy", "light"))
        row = {"parcel_id": about.rows[0]["parcel_id"], "label": label}
        return Case(
            number,
            f"pub-{number}",
            "parcels",
            "actual",
            self._time(),
            ({"id": row["parcel_id"], "label": label}, None),
            TABLE,
            "parcels_actuals",
            (row,),
        )

    def _time(self) -> int:
        """Minutes ago, and now and then days."""
        late = self._random.randrange(1, 6) * DAY if self._random.random() < 0.04 else 0
        return micros(NOW) - late - self._random.randrange(20 * MINUTE)


def _parcels(random: Random, number: int, time: int) -> Case:
    count = random.choices((0, 1, 2, 3), (1, 8, 4, 2))[0]
    ids = [f"p{number}-{index}" for index in range(count)]
    kilos = [round(random.uniform(0.1, 99), 2) for _ in ids]
    scores = [round(random.random(), 4) for _ in ids]
    request = {"parcels": [{"id": id_, "kilos": kilo} for id_, kilo in zip(ids, kilos)]}
    rows = tuple(
        {
            "parcel_id": id_,
            "kilos": kilo,
            "label": "heavy" if score >= 0.5 else "light",
            "score": score,
        }
        for id_, kilo, score in zip(ids, kilos, scores)
    )
    case = Case(
        number,
        f"pub-{number}",
        "parcels",
        "prediction",
        time,
        (request, {"scores": scores}),
        TABLE,
        "parcels",
        rows,
    )
    if not rows:
        return replace(case, fate=SKIPPED, reason="no_rows")
    return _gone_wrong(random, case, {"scores": [*scores[1:], 1.5]}, "validate")


def _quote(random: Random, number: int, time: int) -> Case:
    id_, kilometres = f"q{number}", random.randrange(1000)
    price = round(random.uniform(1, 500), 2)
    case = Case(
        number,
        f"pub-{number}",
        "quotes",
        "prediction",
        time,
        ({"id": id_, "kilometres": kilometres}, {"price": price}),
        TABLE,
        "quotes",
        ({"quote_id": id_, "kilometres": kilometres, "price": price},),
    )
    return _gone_wrong(random, case, {"cost": price}, "extract")


def _ghost(random: Random, number: int, time: int) -> Case:
    body = ({"number": number}, {})
    return Case(number, f"pub-{number}", "ghosts", "prediction", time, body, PARKED)


def _gone_wrong(random: Random, case: Case, wrong: Any, stage: str) -> Case:
    """Now and then the answer is a wrong one, an error, or was cut."""
    chance = random.random()
    if chance < 0.03:
        body = (case.body[0], wrong)
        return replace(case, body=body, fate=DEAD, reason=stage, rows=())
    if chance < 0.05:
        return replace(case, cut=2, fate=DEAD, reason="decode", rows=())
    if chance < 0.08:
        return replace(case, status=503, fate=SKIPPED, reason="status", rows=())
    return case


def payload(value: Any) -> bytes | None:
    """A body as it is sent, and as a dead letter must hold it."""
    return None if value is None else json.dumps(value).encode()


def by_model(cases: Iterable[Case]) -> dict[tuple[str, str], list[Case]]:
    """What may travel in one message."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.model_id, case.kind), []).append(case)
    return groups
