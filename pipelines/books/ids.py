"""Envelope ids as numbers: publishers and sequence numbers, a column at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Numbers = npt.NDArray[np.int64]
MAX_DIGITS = 11
"""Of a sequence number: more envelopes than a publisher can make in a thousand years."""


class Publishers:
    """Numbers for the publishers that have sent heartbeats, and for all other ids.

    Args:
        names: of the publishers.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(names)
        self._values = pa.array(self.names, pa.large_string())
        self._others: dict[str, int] = {}

    def parse(self, ids: pa.Array) -> tuple[Numbers, Numbers]:
        """Publisher and sequence number of each id.

        An id that no known publisher has made has the publisher -1, and a number of its own.

        Args:
            ids: of envelopes, large strings without null.
        """
        # The publisher is found in one look-up a distinct name: ids of one stand together.
        parts = pc.split_pattern(ids, "-", max_splits=1, reverse=True)
        lengths = pc.list_value_length(parts).to_numpy()
        publishers = np.full(len(ids), -1, np.int64)
        numbers = np.zeros(len(ids), np.int64)
        split = np.flatnonzero(lengths == 2)
        if len(split):
            offsets = parts.offsets.to_numpy()[split] - parts.offsets[0].as_py()
            flat = parts.flatten()
            digits = flat.take(pa.array(offsets + 1))
            found = self._codes(flat.take(pa.array(offsets)))
            found[~_canonical(digits)] = -1
            ours = found >= 0
            publishers[split] = found
            numbers[split[ours]] = digits.filter(pa.array(ours)).cast(pa.int64()).to_numpy()
        foreign = np.flatnonzero(publishers < 0)
        if len(foreign):
            numbers[foreign] = self._number(ids.take(pa.array(foreign)))
        return publishers, numbers

    def _codes(self, prefixes: pa.Array) -> Numbers:
        encoded = prefixes.dictionary_encode()
        places = pc.index_in(encoded.dictionary, value_set=self._values).fill_null(-1)
        codes: Numbers = places.to_numpy().astype(np.int64)[encoded.indices.to_numpy()]
        return codes

    def _number(self, ids: pa.Array) -> Numbers:
        encoded, known = ids.dictionary_encode(), self._others
        numbers = [known.setdefault(name, len(known)) for name in encoded.dictionary.to_pylist()]
        found: Numbers = np.array(numbers, np.int64)[encoded.indices.to_numpy()]
        return found


def _canonical(digits: pa.Array) -> npt.NDArray[np.bool_]:
    """Whether each is as `str` writes a number: "007" is somebody else's id, and not 7."""
    length = pc.binary_length(digits)
    zero = pc.and_(pc.starts_with(digits, "0"), pc.greater(length, 1))
    good = pc.and_(pc.string_is_ascii(digits), pc.utf8_is_digit(digits))
    good = pc.and_(good, pc.less_equal(length, MAX_DIGITS))
    found: npt.NDArray[np.bool_] = pc.and_not(good, zero).to_numpy(zero_copy_only=False)
    return found


def holes(present: Numbers, first: int, end: int) -> list[tuple[int, int]]:
    """Ranges of numbers from `first` and below `end` that are missing; both ends are missing.

    Args:
        present: sorted and distinct.
        first: the first number that should be there.
        end: the number behind the last one.
    """
    inside = present[np.searchsorted(present, first) : np.searchsorted(present, end)]
    fence = np.concatenate([[first - 1], inside, [end]])
    steps = np.flatnonzero(np.diff(fence) > 1)
    return [(int(fence[i]) + 1, int(fence[i + 1]) - 1) for i in steps]
