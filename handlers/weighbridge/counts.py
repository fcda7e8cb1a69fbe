"""What became of envelopes, counted by model: for `stats()`, heartbeats and metrics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypedDict

from weighbridge.sampling import Sampling, Share

AT_CAPTURE = ("closed", "queue_full", "refused", "too_large")
LATER = ("broker", "closed", "encode", "queue_full", "spool_full", "spool_lost")
CAUSES = tuple(sorted({*AT_CAPTURE, *LATER}))
"""Why an envelope is dropped. README.md says what each means."""
MAX_MODELS = 1000
OTHERS = ""
"""Counts models beyond `MAX_MODELS`, and what names none: callers may choose model ids."""


class ModelStats(TypedDict):
    """Counts of envelopes: served = sampled_out + published + spooled + all dropped + queued."""

    served: int
    sampled_out: int
    published: int
    spooled: int
    dropped: dict[str, int]
    queued: int


class Stats(ModelStats):
    """Counts since the publisher was made, in this process.

    `spooled` lie in the spool now. `recovered` are envelopes of earlier processes that were
    published from the spool; they are no part of the sum.
    """

    recovered: int
    models: dict[str, ModelStats]


class ModelCounts:
    """Counts of one model. Each `+= 1` is one step between threads, as no call is part of it."""

    __slots__ = (
        "accepted",
        "lost",
        "model_id",
        "published",
        "sampled_out",
        "share",
        "spooled",
        "turned_away",
    )

    def __init__(self, model_id: str, share: Share | None) -> None:
        self.model_id = model_id
        self.share = share
        # Written by those who capture.
        self.accepted = self.sampled_out = 0
        # All keys from the start: `+= 1` on a missing one would be several steps.
        self.turned_away = dict.fromkeys(AT_CAPTURE, 0)
        # Written by the publisher's thread.
        self.published = self.spooled = 0
        self.lost = dict.fromkeys(LATER, 0)

    def dropped_late(self, cause: str) -> None:
        """Count one that was accepted, and is dropped all the same."""
        self.lost[cause] += 1

    def copy(self) -> ModelCounts:
        """Counts that go on from here."""
        twin = ModelCounts(self.model_id, self.share)
        for name in ("accepted", "sampled_out", "published", "spooled"):
            setattr(twin, name, getattr(self, name))
        twin.turned_away, twin.lost = dict(self.turned_away), dict(self.lost)
        return twin

    def stats(self) -> ModelStats:
        """The counts so far."""
        # Each read once, and what they become before what they were: the thread goes on meanwhile,
        # and what is on its way from one to another may be missing, but is never there twice.
        turned_away, lost = dict(self.turned_away), dict(self.lost)
        published = self.published
        spooled = self.spooled
        sampled_out, accepted = self.sampled_out, self.accepted
        return {
            "served": accepted + sampled_out + sum(turned_away.values()),
            "sampled_out": sampled_out,
            "published": published,
            "spooled": spooled,
            "dropped": dict(Counter(turned_away) + Counter(lost)),
            "queued": max(0, accepted - published - spooled - sum(lost.values())),
        }


class Counts:
    """The counts of all models.

    Args:
        sampling: what is kept of each.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self.others = ModelCounts(OTHERS, sampling.share(OTHERS))
        self.models: dict[Any, ModelCounts] = {}
        """By model id; look here first, as `known` costs more."""

    def known(self, model_id: Any) -> ModelCounts:
        """Those of a model; from now on its own, if it is seen for the first time."""
        if type(model_id) is not str or not model_id:
            return self.others
        found = self.models.get(model_id)
        if found is None and len(self.models) < MAX_MODELS:
            fresh = ModelCounts(model_id, self._sampling.share(model_id))
            found = self.models.setdefault(model_id, fresh)
        return found or self.others

    def written_off(self, cause: str) -> Counts:
        """Counts that go on from here, with everything that is queued as dropped."""
        twin = Counts(self._sampling)
        twin.others = self.others.copy()
        twin.models |= {model_id: one.copy() for model_id, one in self.models.items()}
        for one in twin.each():
            one.lost[cause] += one.stats()["queued"]
        return twin

    def dropped(self) -> int:
        """How many were dropped so far, for a look that costs little."""
        every = (*list(self.models.values()), self.others)
        return sum(sum(one.turned_away.values()) + sum(one.lost.values()) for one in every)

    def each(self) -> list[ModelCounts]:
        """Those of all models, and of the others if there are any."""
        return [one for one in (*list(self.models.values()), self.others) if one.stats()["served"]]

    def stats(self, recovered: int) -> Stats:
        """The counts so far, by model and in all."""
        models = {one.model_id: one.stats() for one in self.each()}
        return {**_total(models.values()), "recovered": recovered, "models": models}

    def heartbeat(self, publisher_id: str, unused: int) -> dict[str, Any]:
        """What heartbeat.avsc describes, as of now; `unused` ids were given out besides."""
        models = {one.model_id: one.stats() for one in self.each()}
        return {
            "publisher_id": publisher_id,
            "time": time.time_ns() // 1000,
            "sequence": unused + sum(one["served"] for one in models.values()),
            "models": [{"model_id": model_id, **one} for model_id, one in models.items()],
        }


def _total(models: Iterable[ModelStats]) -> ModelStats:
    sums: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for one in models:
        dropped.update(one["dropped"])
        sums.update({name: one[name] for name in _NUMBERS})  # type: ignore[literal-required]
    return {**{name: sums[name] for name in _NUMBERS}, "dropped": dict(dropped)}  # type: ignore[typeddict-item]


_NUMBERS = ("served", "sampled_out", "published", "spooled", "queued")
