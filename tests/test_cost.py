"""The estimate of docs/deploy.md: its table follows from the inputs that it names."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest
from test_docs import DOCS

from benchmarks.scaling.cost import HARNESS, KEPT, Prices, a_month, cost_table, workers
from benchmarks.scaling.curves import CURVES
from benchmarks.scaling.plan import BUSY, Traffic, cores, plan

PAGE = (DOCS / "deploy.md").read_text()
SECONDS = 30 * 86_400


def named(page: str = PAGE) -> dict[str, float]:
    """The values of a page's tables of inputs."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d.,]+)(?: us| bytes)? \|", page, re.M)
    return {name: float(value.replace(",", "")) for name, value in rows}


def test_the_page_names_every_input() -> None:
    assert named() == {**asdict(KEPT), **asdict(Prices()), "harness": HARNESS}
    assert f"`busy` {BUSY}" in PAGE
    like = Traffic(1)
    assert f"{like.tables} tables" in PAGE and f"each {like.interval:.0f}\nseconds" in PAGE


def test_the_table_is_what_the_formulas_give() -> None:
    assert cost_table().as_markdown().partition("\n\n")[2].strip() in PAGE


@pytest.mark.parametrize("rate", [1_000, 250_000])
def test_the_formulas_of_the_page(rate: int) -> None:
    given = named()
    cpu = rate * (given["envelope"] + given["row"] + given["push"]) + 100 / 300 * given["commit"]
    vcpus = cpu / 1e6 * given["harness"] / BUSY
    assert workers(Traffic(rate)) == max(1, -(-vcpus // 4))
    found = a_month(Traffic(rate), Prices())
    sent = rate * given["message"] * SECONDS
    assert found == pytest.approx(
        {
            "workers": workers(Traffic(rate))
            * 4
            * 720
            * (given["vcpu_hour"] + 4 * given["gib_hour"]),
            "Streaming Engine": (sent + rate * given["shuffled"] * SECONDS)
            / 2**30
            * given["streaming_gib"],
            "Pub/Sub": sent / 2**40 * 2 * given["pubsub_tib"],
            "archive": sent / 2**40 * given["archive_tib"],
            "storage": (sent + rate * given["file"] * SECONDS) / 2**30 * given["stored_gib"],
        }
    )


def test_the_plan_of_the_other_page_has_the_same_inputs() -> None:
    page = (DOCS / "scaling.md").read_text()
    on_dataflow = page[page.index("## On Dataflow") :]
    assert named(on_dataflow) == {**asdict(KEPT), "harness": HARNESS}
    assert plan(KEPT, Traffic(0)).as_markdown().partition("\n\n")[2].strip() in page
    busy = cores(Traffic(1_000_000), KEPT)
    assert f"{770 / busy:.0f} busy; {770 / busy / HARNESS * BUSY:.0f} with" in page
    assert f"{KEPT.message / busy / HARNESS * BUSY:.1f} with `harness`" in page
    assert all(f"--only {name}" in page or name in page for name in CURVES)


def test_what_is_said_beside_the_table() -> None:
    count = workers(Traffic(1_000_000))
    assert f"on {count} workers" in PAGE
    assert f"{770 / (4 * count):.1f} MB/s of JSON a core" in PAGE
    assert f"{KEPT.message / (4 * count):.1f} MB/s of what" in PAGE
    parts = a_month(Traffic(1_000_000), Prices())
    slower = 10 * parts["workers"]
    assert slower / (sum(parts.values()) - parts["workers"] + slower) < 1 / 3
