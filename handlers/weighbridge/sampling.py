"""Which envelopes are kept of a model that has more than anyone wants to store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from zlib import crc32

VARIABLE = "WEIGHBRIDGE_SAMPLE"
DEFAULT = "*"
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Share:
    """What is kept of one model.

    A key is kept if ((crc32(key) + offset) * factor) mod 2^64 < threshold, where the offset is the
    first 8 bytes of SHA-256(model id), big-endian, the factor the next 8 with the last bit set, and
    the threshold the share times 2^64. So one key is always kept or never, in predictions and in
    actuals alike, while models choose independently. A cryptographic hash of each key would cost
    more than the rest of a capture.
    """

    threshold: int
    offset: int
    factor: int

    def keeps(self, key: str) -> bool:
        """Whether what has this key is kept."""
        number = crc32(key.encode("utf-8", "surrogatepass"))
        return ((number + self.offset) * self.factor) & _WORD < self.threshold


class Sampling:
    """The share of each model that is kept, the same in every process with the same setting.

    Args:
        rates: from 0 to 1 by model id; "*" stands for all that are not named. Without any,
            `WEIGHBRIDGE_SAMPLE` says them, such as `flight-delay=0.1,*=0.5`; without that,
            everything is kept.

    Raises:
        ValueError: something else than such rates.
    """

    def __init__(self, rates: Mapping[str, float] | None = None) -> None:
        source = "sample"
        if rates is None:
            source = VARIABLE
            rates = _parsed(os.environ.get(VARIABLE, ""))
        if not isinstance(rates, Mapping):
            raise ValueError(f"{source}: give shares by model id, such as {{'flight-delay': 0.1}}")
        for model_id, rate in rates.items():
            if not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
                raise ValueError(f"{source}: the rate of {model_id} is not from 0 to 1")
        self._rates = dict(rates)

    def share(self, model_id: str) -> Share | None:
        """What is kept of a model; None if all of it is."""
        rate = self._rates.get(model_id, self._rates.get(DEFAULT, 1))
        if rate >= 1:
            return None
        digest = sha256(model_id.encode(errors="surrogatepass")).digest()
        offset, factor = int.from_bytes(digest[:8]), int.from_bytes(digest[8:16]) | 1
        return Share(int(rate * (1 << 64)), offset, factor)


def _parsed(text: str) -> dict[str, float]:
    rates: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        model_id, equals, rate = part.partition("=")
        try:
            rates[model_id.strip()] = float(rate)
        except ValueError:
            equals = ""
        if not equals or not model_id:
            raise ValueError(f"{VARIABLE}: write model=rate, such as flight-delay=0.1,*=1")
    return rates
