"""What became of each envelope: one fate for each id, however often it was stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.books.ids import Numbers, Publishers

HOUR = 3_600_000_000
_SEQUENCE_BITS, _FATE_BITS = 38, 2


class Fate(IntEnum):
    """Where an envelope is. If in several places, the first of them counts."""

    TABLE = 0
    SKIPPED = 1
    DEAD_LETTER = 2
    PARKED = 3


@dataclass(frozen=True)
class Seen:
    """Distinct envelopes, in the order of publisher and number; all arrays are of one length.

    Attributes:
        publisher: position among the publishers, -1 for foreign ids.
        number: sequence number.
        fate: a `Fate`.
        model: position in `models`.
        why: position in `whys`.
        hour: of its event, in hours since 1970, UTC.
        inside: whether it was published in the time that is looked at.
        models: model ids.
        whys: stages of dead letters and reasons of skipped and parked envelopes.
    """

    publisher: Numbers
    number: Numbers
    fate: Numbers
    model: Numbers
    why: Numbers
    hour: Numbers
    inside: npt.NDArray[np.bool_]
    models: list[str]
    whys: list[str]

    def of(self, publisher: int) -> slice:
        """Where a publisher's envelopes stand."""
        ends = np.searchsorted(self.publisher, [publisher, publisher + 1])
        return slice(int(ends[0]), int(ends[1]))

    def counted(self, chosen: Numbers) -> Iterator[tuple[str, int, Fate, str, int]]:
        """Model, hour, fate, why, and how many of the chosen positions have all of these."""
        columns = {n: getattr(self, n)[chosen] for n in ("model", "hour", "fate", "why")}
        groups = pa.table(columns).group_by(list(columns)).aggregate([([], "count_all")])
        for model, hour, fate, why, count in zip(*(groups[n].to_pylist() for n in _GROUPED)):
            yield self.models[model], hour, Fate(fate), self.whys[why], count


_GROUPED = ("model", "hour", "fate", "why", "count_all")


class Sightings:
    """Gathers what tables hold.

    Args:
        publishers: those that sent heartbeats.
        since: microseconds since 1970, UTC: foreign ids from before are left out.
        until: from when on foreign ids are left out, and others are marked.
    """

    def __init__(self, publishers: Publishers, since: int, until: int) -> None:
        self._publishers = publishers
        self._since, self._until = since, until
        self._parts: list[tuple[Numbers, ...]] = []
        self._models: dict[str, int] = {}
        self._whys: dict[str, int] = {}

    def add(
        self,
        fate: Fate,
        rows: pa.Table,
        model: str | pa.ChunkedArray,
        why: str | pa.ChunkedArray = "",
    ) -> None:
        """Note envelopes.

        Args:
            fate: where they are.
            rows: `envelope_id`, `event_time` and `ingest_time`; rows of one envelope may repeat.
            model: of all of them, or of each.
            why: likewise.
        """
        ids = _strings(rows["envelope_id"])
        first = _firsts(ids)
        count = len(ids)
        columns = [
            micros(rows["event_time"]) // HOUR,
            micros(rows["ingest_time"]),
            _codes(model, self._models, count),
            _codes(why, self._whys, count),
        ]
        if not first.all():
            ids = ids.filter(pa.array(first))
            columns = [column[first] for column in columns]
        publisher, number = self._publishers.parse(ids)
        hour, ingested, models, whys = columns
        inside = (ingested >= self._since) & (ingested < self._until)
        kept = inside | (publisher >= 0)
        fates = np.full(len(ids), int(fate), np.int64)
        part = (publisher, number, fates, models, whys, hour, inside.astype(np.int64))
        self._parts.append(tuple(column[kept] for column in part))

    def seen(self) -> Seen:
        """One fate for each envelope."""
        empty: Numbers = np.zeros(0, np.int64)
        columns: list[Numbers] = [np.concatenate([empty, *each]) for each in zip(*self._parts)] or [
            empty
        ] * 7
        publisher, number, fate = columns[:3]
        bits = ((publisher + 1) << _SEQUENCE_BITS | number) << _FATE_BITS | fate
        order = np.argsort(bits, kind="stable")
        keys = bits[order] >> _FATE_BITS
        first = np.ones(len(keys), bool)
        first[1:] = keys[1:] != keys[:-1]
        chosen = order[first]
        publisher, number, fate, model, why, hour, inside = (each[chosen] for each in columns)
        names = list(self._models), list(self._whys)
        return Seen(publisher, number, fate, model, why, hour, inside.astype(bool), *names)


def _firsts(ids: pa.Array) -> npt.NDArray[np.bool_]:
    """Whether each differs from the one before: rows of one envelope stand together."""
    first = np.ones(len(ids), bool)
    if len(ids) > 1:
        differ = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1))
        first[1:] = differ.to_numpy(zero_copy_only=False)
    return first


def _strings(column: pa.ChunkedArray) -> pa.Array:
    return column.cast(pa.large_string()).fill_null("").combine_chunks()


def micros(column: pa.ChunkedArray) -> Numbers:
    """Times as microseconds since 1970, 0 where there is none."""
    found: Numbers = column.cast(pa.int64()).fill_null(0).to_numpy()
    return found


def _codes(values: str | pa.ChunkedArray, known: dict[str, int], count: int) -> Numbers:
    if isinstance(values, str):
        return np.full(count, known.setdefault(values, len(known)), np.int64)
    encoded = _strings(values).dictionary_encode()
    codes = [known.setdefault(name, len(known)) for name in encoded.dictionary.to_pylist()]
    found: Numbers = np.array(codes, np.int64)[encoded.indices.to_numpy()]
    return found
