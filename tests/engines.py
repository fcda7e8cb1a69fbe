"""Beam's runners of this machine, and what a run on each of them left behind."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from support import PACKAGES, Home, environment

from deploy.flink.cluster import Cluster, Ports, flink_cluster
from deploy.flink.downloads import prism
from pipelines.failures import FAILURES, PARKED
from pipelines.ledger import COSTS, DELIVERIES, PLATFORM
from pipelines.tables import MODELS, Tables

_HARNESS = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"
_EMBED = ("--runner=PortableRunner", "--job_endpoint=embed")


@contextmanager
def in_processes(folder: Path) -> Iterator[tuple[str, ...]]:
    """Beam's in-memory runner with two worker processes."""
    with environment(PYTHONPATH=str(PACKAGES)):
        yield "--direct_running_mode=multi_processing", "--direct_num_workers=2"


@contextmanager
def bundle_based(folder: Path) -> Iterator[tuple[str, ...]]:
    """The classic runner, which runs streams."""
    yield ("--runner=BundleBasedDirectRunner",)


@contextmanager
def portable(folder: Path) -> Iterator[tuple[str, ...]]:
    """Through a job server, with a worker that is a process of its own."""
    kind = "--environment_type=beam:env:harness_subprocess_python:v1"
    with environment(PYTHONPATH=str(PACKAGES)):
        yield *_EMBED, kind, f"--environment_config={_HARNESS}"


@contextmanager
def on_prism(folder: Path) -> Iterator[tuple[str, ...]]:
    """Prism, which Go gets and builds."""
    yield "--runner=PrismRunner", f"--prism_location={prism()}"


@contextmanager
def on_flink(folder: Path) -> Iterator[tuple[str, ...]]:
    """A Flink cluster with two task managers, behind Beam's job server."""
    with flink_cluster(folder, Ports(0, 0), python_path=[PACKAGES, PACKAGES.parent]) as cluster:
        yield cluster.arguments
        assert len(_at_work(cluster)) == 2, "one task manager did it all"


def _at_work(cluster: Cluster) -> set[str]:
    """The task managers that ran a part of a step."""
    found = set()
    for job in cluster.ask("jobs")["jobs"]:
        for step in cluster.ask(f"jobs/{job['id']}")["vertices"]:
            parts = cluster.ask(f"jobs/{job['id']}/vertices/{step['id']}")["subtasks"]
            found |= {part["taskmanager-id"] for part in parts}
    return found


def left_behind(home: Home) -> dict[str, Any]:
    """All rows by table, and the messages that are set aside by folder.

    Costs differ each time: of these only how many envelopes were extracted. So does which messages
    of a stream share a file.
    """
    tables = Tables(home.folder)
    names = [name for space in (MODELS, PLATFORM) for name in tables.names(space)]
    found: dict[str, Any] = {name: _rows(tables, name) for name in names}
    del found[DELIVERIES]
    extracted: Counter[str] = Counter()
    for row in found.pop(COSTS):
        extracted[row["model_id"]] += row["envelopes"]
    found["extracted"] = dict(extracted)
    for folder in (FAILURES, PARKED):
        found[folder] = sorted(home.stored(folder), key=repr)
    return found


def _rows(tables: Tables, name: str) -> list[dict[str, Any]]:
    rows: pa.Table = tables.load(name).scan().to_arrow()
    if "file" in rows.column_names:
        rows = rows.drop_columns(["file", "position"])
    return sorted(rows.to_pylist(), key=lambda row: row["row_id"])
