"""What Prometheus reads: requests and their time, and what became of envelopes."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

from weighbridge.counts import Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""
Sample = tuple[str, dict[str, str], float]
"""What is added to the metric's name, labels, value."""


class RequestMetrics:
    """Counts requests. Its methods are called in the event loop only."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self.in_progress = 0

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count a request; the time of predictions goes into the histogram."""
        self._requests[route, status] += 1
        if route == "predict":
            self._buckets[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds

    def text(self, ready: bool, stats: Stats) -> str:
        """All metrics in Prometheus's text format."""
        metrics = [
            _metric("ready", "gauge", "Whether requests are answered.", [("", {}, ready)]),
            _metric(
                "requests_total",
                "counter",
                "Requests by route and status.",
                [
                    ("", {"route": route, "status": str(status)}, count)
                    for (route, status), count in sorted(self._requests.items())
                ],
            ),
            _metric(
                "requests_in_progress", "gauge", "Requests in hand.", [("", {}, self.in_progress)]
            ),
            _metric("predict_seconds", "histogram", "Time of a prediction.", self._histogram()),
            _metric(
                "envelopes_total", "counter", "Envelopes by what became of them.", _outcomes(stats)
            ),
            _metric(
                "envelopes_waiting",
                "gauge",
                "Envelopes in memory (queued) and in the spool (spooled).",
                [
                    ("", {"model": model, "place": place}, counts[place])
                    for model, counts in stats["models"].items()
                    for place in ("queued", "spooled")
                ],
            ),
        ]
        return "".join(metrics)

    def _histogram(self) -> Iterator[Sample]:
        total = 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self._buckets, strict=True):
            total += count
            yield "_bucket", {"le": bound}, total
        yield "_sum", {}, self._seconds
        yield "_count", {}, total


def _outcomes(stats: Stats) -> Iterator[Sample]:
    for model, counts in stats["models"].items():
        for outcome in ("sampled_out", "published"):
            yield "", {"model": model, "outcome": outcome, "cause": ""}, counts[outcome]
        for cause, count in sorted(counts["dropped"].items()):
            yield "", {"model": model, "outcome": "dropped", "cause": cause}, count


def _metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    name = f"weighbridge_{name}"
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for suffix, labels, value in samples:
        pairs = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        lines.append(f"{name}{suffix}{f'{{{pairs}}}' if pairs else ''} {float(value):.15g}")
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
