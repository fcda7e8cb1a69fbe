"""What is run: the loop, or the pipeline with this or that; and the home that it starts with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.loop import run_loop
from benchmarks.measure import replaced
from benchmarks.traffic import Traffic, Written
from extractors import load_extractors
from pipelines import described, local_catalog
from pipelines.main import run
from schemas.buffer import RowShape
from schemas.guard import TimeLimit

A = TypeVar("A")
R = TypeVar("R")
Run = Callable[[Written, Traffic, Path], object]
DICTS, OBJECTS, MANY = (f"benchmarks.models.{name}" for name in ("dicts", "objects", "many"))
LOOP, PIPELINE = "loop", "dicts"


@dataclass(frozen=True)
class Start:
    """The home that a run starts with: a package's tables, empty or with the rows of traffic."""

    package: str
    before: Traffic | None = None

    @property
    def name(self) -> str:
        """Name of its template."""
        package = self.package.rpartition(".")[2]
        return package if self.before is None else f"{package}-{self.before.name}"


@dataclass(frozen=True)
class Variant:
    """One way to do the work of a case.

    Attributes:
        name: unique in its case.
        label: what the table calls it.
        run: does the work.
        start: the home to start with.
        beside: name of the variant that it is compared with.
        beside_case: the case of that variant, if it is another one.
    """

    name: str
    label: str
    run: Run = field(repr=False)
    start: Start
    beside: str = LOOP
    beside_case: str = ""


def loop(package: str = DICTS) -> Variant:
    """The loop written by hand."""

    def work(written: Written, traffic: Traffic, home: Path) -> None:
        run_loop(written.paths, load_extractors(package), home, traffic.rows)

    return Variant(LOOP, "loop written by hand", work, Start(package), beside="")


def pipeline(
    name: str = PIPELINE,
    label: str = "dicts",
    *,
    package: str = DICTS,
    workers: int = 1,
    before: Traffic | None = None,
    beside: str = LOOP,
    beside_case: str = "",
) -> Variant:
    """A run of the pipeline."""

    def work(written: Written, traffic: Traffic, home: Path) -> None:
        run_pipeline(written, home, package, workers)

    return Variant(name, label, work, Start(package, before), beside, beside_case)


def unsynced() -> Variant:
    """The pipeline without waiting for the disk."""

    def work(written: Written, traffic: Traffic, home: Path) -> None:
        with replaced(os, "fsync", _no_sync):
            run_pipeline(written, home, DICTS)

    return Variant("unsynced", "dicts, without fsync", work, Start(DICTS), PIPELINE)


def unlimited() -> Variant:
    """The pipeline without the time limit of extractors."""

    def work(written: Written, traffic: Traffic, home: Path) -> None:
        with replaced(TimeLimit, "each", _each):
            run_pipeline(written, home, DICTS)

    return Variant("unlimited", "dicts, without time limit", work, Start(DICTS), PIPELINE)


def run_pipeline(written: Written, home: Path, package: str, workers: int = 1) -> None:
    """`weighbridge run` in this process, as if it were a new one."""
    local_catalog._seen.clear()
    described._fitting.clear()
    RowShape.of.cache_clear()
    run(run_arguments(written, home, package, workers))


def run_arguments(written: Written, home: Path, package: str, workers: int) -> list[str]:
    """Arguments of a run over the traffic."""
    arguments = ["--input_files", written.files, "--home", str(home), "--no_arize"]
    arguments += ["--extractors_package", package]
    return [*arguments, "--workers", str(workers)]


def _no_sync(descriptor: int) -> None:
    return None


def _each(
    self: Any, function: Callable[[A], R], arguments: Iterable[A], seconds: float
) -> Iterator[R]:
    return map(function, arguments)
