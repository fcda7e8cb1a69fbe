"""`python -m benchmarks.scaling.cost`: dollars of a month, for docs/deploy.md."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.capture.figures import Table
from benchmarks.scaling.plan import BUSY, CORES_OF_A_WORKER, DAY, RATES, Measured, Traffic, cores

DAYS = 30
GIB, TIB = 2**30, 2**40
GIB_OF_A_CORE = 4
KEPT = Measured(envelope=10.8, row=5.0, commit=8_330, push=2.4, message=116, shuffled=264, file=49)
"""Of `python -m benchmarks.scaling`, as docs/scaling.md shows it: bodies of 770 bytes, one row."""
HARNESS = 1.18
"""`python -m benchmarks.scaling.harness`, the same day: CPU in a worker process of Beam's beside
the same run in one process. How much more the service's own part of a worker takes is not known."""


@dataclass(frozen=True)
class Prices:
    """US dollars of Google Cloud's region us-central1.

    Attributes:
        vcpu_hour: of a streaming worker's core.
        gib_hour: of its memory.
        streaming_gib: for each GiB through Streaming Engine.
        pubsub_tib: for each TiB that is published, and again for each that is delivered.
        archive_tib: for each TiB that a Cloud Storage subscription writes.
        stored_gib: for each GiB that lies in Cloud Storage for a month.
    """

    vcpu_hour: float = 0.069
    gib_hour: float = 0.003557
    streaming_gib: float = 0.018
    pubsub_tib: float = 40.0
    archive_tib: float = 50.0
    stored_gib: float = 0.020


def workers(traffic: Traffic, measured: Measured = KEPT) -> int:
    """Machines that the traffic takes, `BUSY` of the time."""
    vcpus = cores(traffic, measured) * HARNESS / BUSY
    return max(1, -int(-vcpus // CORES_OF_A_WORKER))


def a_month(traffic: Traffic, prices: Prices, measured: Measured = KEPT) -> dict[str, float]:
    """Dollars of thirty days, by what they are for; what is stored is that of thirty days."""
    vcpus = workers(traffic, measured) * CORES_OF_A_WORKER
    envelopes, rows = (rate * DAY * DAYS for rate in (traffic.rate, traffic.rate * traffic.rows))
    sent, shuffled = envelopes * measured.message, rows * measured.shuffled
    core_hour = prices.vcpu_hour + GIB_OF_A_CORE * prices.gib_hour
    return {
        "workers": vcpus * 24 * DAYS * core_hour,
        "Streaming Engine": (sent + shuffled) / GIB * prices.streaming_gib,
        "Pub/Sub": 2 * sent / TIB * prices.pubsub_tib,
        "archive": sent / TIB * prices.archive_tib,
        "storage": (sent + rows * measured.file) / GIB * prices.stored_gib,
    }


def cost_table(prices: Prices | None = None) -> Table:
    """A line for each of `RATES`."""
    names = list(a_month(Traffic(1), Prices()))
    head = ["envelopes/s", "workers of 4 vCPU", *(f"{name}, $" for name in names)]
    table = Table("A month", [*head, "all, $", "a million envelopes, $"])
    for rate in RATES:
        traffic = Traffic(rate)
        parts = a_month(traffic, prices or Prices())
        whole = sum(parts.values())
        figures = [f"{part:,.0f}" for part in (*parts.values(), whole)]
        million = whole / (rate * DAY * DAYS / 1e6)
        table.rows.append([f"{rate:,}", f"{workers(traffic):,}", *figures, f"{million:.3f}"])
    return table


if __name__ == "__main__":
    print(cost_table().as_markdown())
